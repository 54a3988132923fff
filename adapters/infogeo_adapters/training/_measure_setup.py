"""What a meter is asked for, what cannot be measured of a model, and why; how much room a number format leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError
from infogeo.training import QUANTITIES
from infogeo_adapters.training._measure_structure import Structure
from infogeo_adapters.training.probe import IGNORED, ProbeBatch, is_transformers
from infogeo_adapters.transformers.stack import evaluating, quiet

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.training._measure_attention import HeadMeter
    from infogeo_adapters.training._measure_pass import Passed

MEASURED: tuple[str, ...] = tuple(name for name, quantity in QUANTITIES.items() if not quantity.live)
"""The quantities that are of the probe batch."""

ATTENTION = ("attention_entropy", "attention_logits", "attention_capacity")
LENS = ("lens_entropy", "lens_loss", "path_length")
GRADIENTS = ("fisher_trace", "gradient_snr")


def why_missing(
    structure: Structure, modules: Sequence[torch.nn.Module], probe: ProbeBatch, *, causal: bool, heads: bool,
    logits: bool, bounded: bool, targets: int,
) -> dict[str, str]:
    """Quantities that cannot be measured of a model on a probe batch, and why.

    Parameters
    ----------
    structure : Structure
    modules : sequence of torch.nn.Module
        The module of each block.
    probe : ProbeBatch
    causal : bool
        Whether a token is meant not to see later ones.
    heads, logits, bounded : bool
        Whether it has heads, returns logits, and has activation functions with two bounds.
    targets : int
        Number of tokens with targets of Gram matrices.
    """
    found: dict[str, str] = {}
    why_not = structure.why_not
    if not heads:
        found |= dict.fromkeys(ATTENTION, why_not.get("attention", "the model has no attention"))
    if not structure.outputs:
        found["head_output"] = why_not.get("heads", "no output projection of attention was found")
    if not structure.lasts:
        found["dead_units"] = why_not.get("units", "no feed-forward was found")
    if not structure.outputs or not structure.lasts:
        found["muted_carry"] = found.get("head_output") or found["dead_units"]
    if not bounded:
        unbounded = "the activation function of the feed-forward has no two bounds, or it is gated"
        found["saturated_units"] = unbounded if structure.lasts else why_not.get("units", unbounded)
    if not logits:
        why = "the model returns no logits for each token of the probe batch, so that it predicts none of them"
        found |= dict.fromkeys((*LENS, *GRADIENTS, "probe_loss"), why)
    if not probe.n_targets:
        why = "the probe batch has no targets"
        found |= {n: why for n in ("lens_loss", "probe_loss", "target_information", *GRADIENTS) if n not in found}
    elif targets < 2:
        found["target_information"] = "the probe batch has fewer than two targets"
    if not causal:
        found["future_sensitivity"] = "tokens of this model may see later ones"
    if len(modules) < 2:
        found["twin"] = "the model has one block only"
    elif len(set(map(id, modules))) == 1:
        found["twin"] = "the blocks are one and the same module"
    return found


def headroom(
    passed: Passed, heads: HeadMeter | None, states: Sequence[torch.Tensor], real: torch.Tensor, narrow: str | None
) -> FloatArray:
    """(L + 1) largest number of a format over the largest absolute number of each layer.

    That is of the state after a block and of all that modules inside it put out, the logits of attention among it, at
    tokens that are no padding. Zero if something was infinite, NaN if something was NaN.

    Parameters
    ----------
    passed : Passed
    heads : HeadMeter, optional
    states : sequence of torch.Tensor
        Layers 0 to L.
    real : torch.Tensor of bool, shape (B, T)
        Which tokens are no padding.
    narrow : str, optional
        Name of the format, by default that of the states.
    """
    import torch

    short = narrow or str(states[0].dtype).removeprefix("torch.")
    most = float(torch.finfo(getattr(torch, short)).max)
    sizes = []
    for layer, state in enumerate(states):
        size = np.array([
            float(state[real].abs().max()), passed.largest.get(layer, 0.0),
            heads.largest.get(layer, 0.0) if heads is not None else 0.0,
        ])
        sizes.append(float(size.max()))  # NaN if one of them is
    return np.array([most / size if size != 0 else np.inf for size in sizes])


@contextlib.contextmanager
def untouched(net: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, no gradients, no compiled code, and the random numbers afterwards as they were."""
    import torch

    code = "_compiled_call_impl"  # of module.compile(): its hooks would be deaf, or it would be compiled anew
    compiled = [(m, m.__dict__[code]) for m in net.modules() if m.__dict__.get(code) is not None]
    devices = [device] if device.type == "cuda" else []
    try:
        for module, _ in compiled:
            module.__dict__[code] = None
        silence = quiet() if is_transformers(net) else contextlib.nullcontext()  # once, as it takes a while
        with silence, torch.random.fork_rng(devices=devices), torch.inference_mode(False), evaluating(net):
            yield
    finally:
        for module, call in compiled:
            module.__dict__[code] = call


def check_targets(probe: ProbeBatch, outcomes: int, name: str) -> None:
    """Raise unless all targets are among the outcomes that the model predicts."""
    said = probe.targets[probe.targets != IGNORED]
    wrong = said[(said < 0) | (said >= outcomes)]
    if len(wrong):
        raise ArgumentError(
            f"labels: found {int(wrong[0])}, but {name} predicts {outcomes} outcomes, numbered from 0; give labels "
            f"among these, and {IGNORED} where there is nothing to predict"
        )


def asked(quantities: Sequence[str] | None) -> tuple[str, ...]:
    """The quantities asked for, all by default, or an ArgumentError that lists those there are."""
    if quantities is None:
        return MEASURED
    given = (quantities,) if isinstance(quantities, str) else tuple(quantities)
    wrong = [name for name in given if name not in MEASURED]
    if wrong or not given:
        found = repr(wrong[0]) if wrong else "none"
        raise ArgumentError(f"quantities: found {found}, wanted one or more of {', '.join(MEASURED)}")
    return tuple(dict.fromkeys(given))


def format_name(name: str | None) -> str | None:
    """Name of a number format as torch has it, or an ArgumentError."""
    import torch

    if name is None:
        return None
    short = str(name).removeprefix("torch.")
    dtype = getattr(torch, short, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ArgumentError(f"number_format: found {name!r}, wanted one such as 'float16' or 'bfloat16'")
    return short
