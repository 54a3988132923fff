"""Another attention implementation for a while, and what a model returns of its attention by itself.

The fast implementations (sdpa, flash) return no probabilities. Where these cannot be formed beside the model's own
computation (see ``attention_access``), the model is switched to the eager one for the length of a capture. Whether it
then still computes the same is measured once, not believed: Falcon, asked for its attention under sdpa, adds a mask of
zeros and ones to the scores, and its tokens see later ones.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    Side,
    Stack,
    evaluating,
    padded_probe,
    quiet,
    rounding,
    run_probe,
    runner,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ROW_SUM_TOLERANCE = 1e-3
"""How far above one a row of attention may sum in float32; in bfloat16 and float16 twenty times that."""

_forced: weakref.WeakKeyDictionary[PreTrainedModel, dict[Side | None, bool]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def attention_implementation(model: PreTrainedModel, name: str | None, *, force: bool = False) -> Iterator[None]:
    """The model with another attention implementation; afterwards each of its parts has the one it had.

    Hold the model's lock around it. Models that do not offer the switch stay as they are without a word, so compare
    :func:`implementation_of` afterwards.

    Parameters
    ----------
    model : PreTrainedModel
    name : str or None
        As transformers calls it; None changes nothing.
    force : bool
        Set the implementation also where transformers does not offer the switch.
    """
    configs = _configs(model)
    before = [(config, config._attn_implementation) for config in configs]
    try:
        if name is not None:
            with quiet():
                model.set_attn_implementation(name)
            for config in configs if force else ():
                config._attn_implementation_internal = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


@contextlib.contextmanager
def eager_attention(model: PreTrainedModel, *, force: bool, side: Side | None = None) -> Iterator[None]:
    """The model with eager attention; afterwards each of its parts has the implementation it had.

    Parameters
    ----------
    model : PreTrainedModel
    force : bool
        Set the implementation also where transformers does not offer the switch.
    side : {"encoder", "decoder"}, optional
        Which part of the model is run.
    """
    offered = implementation_of(model, side) not in ("eager", None)
    with attention_implementation(model, "eager" if force or offered else None, force=force):
        yield


def implementation_of(model: PreTrainedModel, side: Side | None = None) -> str | None:
    """What the part that is run computes attention by, as transformers calls it; None where it does not say."""
    found: str | None = config_of(model, side)._attn_implementation
    return found


def config_of(model: PreTrainedModel, side: Side | None = None) -> PreTrainedConfig:
    """The configuration of the part that is run; the model's where the part is a plain module (FSMT)."""
    found: PreTrainedConfig = getattr(runner(model, side), "config", model.config)
    return found


def _configs(model: PreTrainedModel) -> list[PreTrainedConfig]:
    """The configurations of a model's parts, those that belong to no module of their own among them, each once."""
    from transformers import PreTrainedModel

    found: dict[int, PreTrainedConfig] = {}
    waiting: list[Any] = [m.config for m in model.modules() if isinstance(m, PreTrainedModel)]
    while waiting:
        config = waiting.pop()
        if config is not None and id(config) not in found:
            found[id(config)] = config
            waiting.extend(getattr(config, name, None) for name in config.sub_configs)
    return list(found.values())


def must_force(model: PreTrainedModel, stack: Stack) -> bool:
    """Whether the switch to eager attention must be forced; it is measured which way leaves the hidden states alone.

    Raises
    ------
    ModelError
        No way gives attention, or each changes what the model computes.
    """
    with lock_of(model):
        known = _forced.setdefault(model, {})
        if stack.side not in known:
            known[stack.side] = _measured(model, stack)
        return known[stack.side]


def _measured(model: PreTrainedModel, stack: Stack) -> bool:
    ids, mask = padded_probe(model)
    real = mask.bool().cpu()
    changed = False
    with evaluating(model):
        own = run_probe(model, stack, ids, mask)[0][:, real]
        for force in (False, True):
            with eager_attention(model, force=force, side=stack.side):
                states, output = run_probe(model, stack, ids, mask, output_attentions=True)
            if not getattr(output, "attentions", None):
                continue
            if float((states[:, real] - own).abs().max()) <= rounding(model) * float(own.abs().max()):
                return force
            changed = True
    if changed:
        raise ModelError(
            f"{type(model).__name__} computes other hidden states when its attention is asked for; load it with "
            "attn_implementation='eager' and pass the object, or capture it with attention=False"
        )
    raise ModelError(f"{type(model).__name__} gives no attention; capture it with attention=False")


def row_sum_tolerance(model: PreTrainedModel) -> float:
    """How far above one a row of a model's attention may sum."""
    return ROW_SUM_TOLERANCE * (20 if model.dtype.itemsize < 4 else 1)


def attention_layers(model: PreTrainedModel, stack: Stack, count: int) -> tuple[int, ...]:
    """Which block, counted from 1, each attention map belongs to; in a hybrid stack not every block has one.

    Raises
    ------
    ModelError
        The number of maps fits neither all blocks nor those that the configuration calls attention.
    """
    if count == stack.depth:
        return tuple(range(1, stack.depth + 1))
    config = config_of(model, stack.side)
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    found = tuple(k for k, kind in enumerate(kinds, start=1) if "attention" in kind and "linear" not in kind)
    if len(found) != count or len(kinds) != stack.depth:
        raise ModelError(
            f"{type(model).__name__} gives {count} attention maps for {stack.depth} blocks and does not say which "
            "blocks they belong to; capture it with attention=False"
        )
    return found
