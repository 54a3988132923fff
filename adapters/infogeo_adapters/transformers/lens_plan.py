"""What is to be read out of a model, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from infogeo._checks import check_count, check_flag, check_memory, check_number
from infogeo.activations import EncoderDecoderActivations, LayerActivations
from infogeo.errors import ArgumentError, TextError
from infogeo.stages import StageActivations
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.loading import LanguageModel

LensStage = Literal[
    "embedding", "attention_output", "resid_mid", "cross_attention_output", "resid_cross", "feed_forward_output",
    "resid_post",
]
LENS_STAGES: tuple[LensStage, ...] = (
    "embedding", "attention_output", "resid_mid", "cross_attention_output", "resid_cross", "feed_forward_output",
    "resid_post",
)
"""Stages that can be read out, in the order in which a model passes through them."""

def readable_stages(model: LanguageModel, *, decoder: bool) -> tuple[tuple[LensStage, ...], dict[LensStage, str]]:
    """The stages of a model that can be read out, and of the others the reason why not.

    Parameters
    ----------
    model : LanguageModel
    decoder : bool
        Of an encoder-decoder model the decoder is read.
    """
    from infogeo_adapters.transformers._stage_plan import make_plan as plan_of

    absent = plan_of(model, LENS_STAGES, None, decoder=decoder, strict=False).absent
    depth = find_stack(model.model, "decoder").depth
    lacking = {
        stage: next(iter(absent[stage].values())) for stage in LENS_STAGES if len(absent.get(stage, {})) == depth
    }
    return tuple(stage for stage in LENS_STAGES if stage not in lacking), lacking


class Translator(Protocol):
    """What takes the state after a layer to where the final norm expects it, such as a tuned lens."""

    @property
    def name(self) -> str:
        """What the result is to call it."""

    def check(self, model: LanguageModel) -> None:
        """Raise an error unless it fits the model."""

    def translate(self, layer: int, states: torch.Tensor) -> torch.Tensor:
        """States (n, d) after a layer (0: the embedding), translated."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arguments, checked."""

    stages: tuple[str, ...]
    lens: Translator | None
    compare: bool
    renyi: tuple[float, ...]
    top_p: float | None
    top_k: int
    used_only: bool
    memory: float

    @property
    def inside(self) -> tuple[str, ...]:
        """Stages that the residual stream between blocks does not hold."""
        return tuple(stage for stage in self.stages if stage not in ("embedding", "resid_post"))


def make_plan(
    stages: Any, lens: Any, *, compare: Any, renyi: Any, top_p: Any, top_k: Any, used_only: Any, memory: Any
) -> Plan:
    """The arguments of :func:`~infogeo_adapters.logit_lens`, or an ArgumentError for what has no such value."""
    if top_p is not None and not 0 < check_number("top_p", top_p) <= 1:
        raise ArgumentError(f"top_p: found {top_p}, wanted a probability above 0 and at most 1")
    plan = Plan(
        stages=_stages(stages), lens=lens, compare=check_flag("compare", compare), renyi=_orders(renyi),
        top_p=None if top_p is None else float(top_p), top_k=check_count("top_k", top_k, 1),
        used_only=check_flag("used_only", used_only), memory=check_memory("memory", memory),
    )
    if lens is not None:
        if not (callable(getattr(lens, "translate", None)) and callable(getattr(lens, "check", None))):
            raise ArgumentError(
                f"lens: found {type(lens).__name__}, wanted a tuned lens, as fit_tuned_lens or load_tuned_lens returns"
            )
        if plan.inside:
            raise ArgumentError(
                f"lens: {lens.name} translates the states after blocks, but stages asks for {', '.join(plan.inside)}; "
                "use stages='resid_post', or no lens"
            )
    return plan


def _stages(stages: Any) -> tuple[str, ...]:
    """Names of stages, each once."""
    if not isinstance(stages, Iterable):
        raise ArgumentError(f"stages: found {stages!r}, wanted one or more of {', '.join(LENS_STAGES)}")
    names = (stages,) if isinstance(stages, str) else tuple(stages)
    wrong = [name for name in names if not isinstance(name, str) or name not in LENS_STAGES]
    if wrong or not names:
        found = repr(wrong[0]) if wrong else "none"
        raise ArgumentError(f"stages: found {found}, wanted one or more of {', '.join(LENS_STAGES)}")
    return tuple(dict.fromkeys(str(name) for name in names))


def _orders(renyi: Any) -> tuple[float, ...]:
    """Orders of Rényi entropies, each once."""
    several = isinstance(renyi, Iterable) and not isinstance(renyi, str | bytes) and getattr(renyi, "ndim", 1) != 0
    orders = [check_number("renyi", order) for order in (renyi if several else [renyi])]
    for order in orders:
        if order < 0:
            raise ArgumentError(f"renyi: found the order {order}, wanted 0 to infinity")
    return tuple(dict.fromkeys(orders))


def named_stages(model: LanguageModel, stages: Any, texts: Sequence[Any], *, decoder: bool) -> Any:
    """The stages themselves; for ``all`` those that the model has, or that were captured."""
    if not (isinstance(stages, str) and stages == "all"):
        return stages
    if isinstance(texts[0], str):
        return readable_stages(model, decoder=decoder)[0]
    held = [text for text in texts if isinstance(text, StageActivations)]
    if len(held) < len(texts):
        return ("resid_post",)  # layers only: there are no other stages to read
    return tuple(stage for stage in LENS_STAGES if all(text.blocks(stage) for text in held))


def several(text: Any) -> Sequence[Any]:
    """The texts or activations themselves, or an error if they are none or mixed."""
    if isinstance(text, bytes) or not isinstance(text, Sequence):
        raise ArgumentError(
            f"text: found {type(text).__name__}, wanted a text, its activations, or a sequence of either"
        )
    if not len(text):
        raise TextError("text: found no texts, wanted at least one")
    kinds = (str, LayerActivations, StageActivations, EncoderDecoderActivations)
    for number, entry in enumerate(text):
        if not isinstance(entry, kinds):
            raise ArgumentError(
                f"text {number}: found {type(entry).__name__}, wanted a text or its activations, all of one kind"
            )
    if any(isinstance(entry, str) for entry in text) and not all(isinstance(entry, str) for entry in text):
        raise ArgumentError("text: found texts and activations mixed, wanted all of one kind")
    return text


def targets_of(target: Any, texts: Sequence[Any], *, one: bool) -> Sequence[str] | None:
    """A target text for each source text, if there are any."""
    if target is None:
        return None
    given = [target] if one and isinstance(target, str) else target
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(texts):
        raise ArgumentError(f"target: wanted one text for each of the {len(texts)} source texts")
    if not isinstance(texts[0], str):
        raise ArgumentError("target: goes with source texts, but activations were given, which hold their own")
    return given
