"""The twin of a model that has learned nothing: its configuration with random weights, as a baseline."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ModelError
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.loading import LanguageModel, load_model
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.stack import quiet
from infogeo_adapters.treebank._facts import facts_of

if TYPE_CHECKING:
    from infogeo_adapters.treebank.families import FamilyKind, GraphFamily, SentenceReading


def untrained_twin(model: LanguageModel, *, seed: int = 0) -> LanguageModel:
    """A model of the same configuration, with weights as they are before training.

    Weights are drawn as the class of the model draws them when it is made from its configuration alone. The tokenizer
    is that of the model, so that both read the same tokens. The state of torch's generators is left as it was.

    Parameters
    ----------
    model : LanguageModel
    seed : int
        Another seed gives other weights.

    Returns
    -------
    LanguageModel
        In the number format and on the device of the model; its source says that it is untrained, and the seed.

    Raises
    ------
    ModelError
        The class cannot be made from the configuration, or its weights are quantized.
    ArgumentError
        ``seed`` is no whole number, or negative.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> model = load_model()
    >>> twin = untrained_twin(model)
    >>> twin.n_layers == model.n_layers, twin.source.content_hash == model.source.content_hash
    (True, False)
    """
    import torch

    check_model(model)
    check_count("seed", seed, 0)
    net: Any = model.model
    if getattr(net, "quantization_method", None) is not None or getattr(net, "is_quantized", False):
        raise ModelError(f"{model.name} has quantized weights, of which no untrained twin can be made; leave it out")
    devices = [net.device] if net.device.type == "cuda" else []
    try:
        with quiet(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            twin = type(net)(copy.deepcopy(net.config))
        twin = twin.to(dtype=net.dtype, device=net.device).eval()
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{model.name}: no untrained twin can be made from the configuration of {type(net).__name__} "
            f"({first_line(error)}); leave it out"
        ) from error
    loaded = load_model(twin, tokenizer=model.tokenizer)
    name = f"{model.name}, untrained"
    source = dataclasses.replace(loaded.source.with_options(untrained=True), model=name, seed=seed)
    return dataclasses.replace(loaded, name=name, source=source)


@dataclass(eq=False)
class OfTwin:
    """A family of word graphs of the untrained twin, under a name of its own and among the baselines."""

    family: GraphFamily
    """Made for the twin."""
    prefix: str
    """Stands before its name."""
    seed: int
    """Of the twin."""

    @property
    def name(self) -> str:
        """Its name, with the prefix."""
        return f"{self.prefix}{self.family.name}"

    @property
    def kind(self) -> FamilyKind:
        """It is a baseline."""
        return "baseline"

    @property
    def options(self) -> dict[str, Any]:
        """What decides its numbers."""
        return {"family": facts_of(self.family), "seed of the twin": self.seed}

    @property
    def variants(self) -> tuple[str, ...]:
        """Those of the family."""
        return self.family.variants

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Let the family prepare."""
        self.family.prepare(model, texts)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """What the family gives."""
        return self.family.closeness(model, readings)
