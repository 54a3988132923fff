"""Attention with the treatment of influence and no geometry in it: beyond what is usual so far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.evidence import row_ratios, standardized_influence
from infogeo.influence import DistanceProfile, distance_profile
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.echo import Reading, doubled, prepare_reading
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence import background_sentences
from infogeo_adapters.transformers.influence_graphs import PROFILE_SENTENCES
from infogeo_adapters.treebank._variants import EXPONENTS, check_causal, with_exponents

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading


@dataclass(eq=False)
class RelativeAttention:
    """Attention of single heads beyond what is usual so far apart, with a prior by distance: no geometry in it.

    The treatment that influence gets, given to attention, so that one can tell which of the two does it.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    reading : {"once", "twice"}
        Whether the text is given once, where in a causal model each pair has one direction only, or twice in a row, as
        influence is measured there.
    """

    model: LanguageModel
    reading: Reading = "once"
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        heads = attending_blocks(self.model)
        names = [f"block {b}, head {h + 1}" for b in heads for h in range(heads[b])]
        self.variants = tuple(f"{p}, prior {e}" for p in names for e in EXPONENTS)

    @property
    def name(self) -> str:
        """``attention head relative to distance``, with a word on the reading."""
        return "attention head relative to distance" + ", read twice" * (self.reading == "twice")

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Measure what is usual at each distance in the packaged text."""
        self._profile = attention_profile(model, self.reading)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (heads x exponents, n, n)."""
        if self.reading == "once":
            shares = [attention_shares(r.activations) for r in readings]
        else:
            shares = shares_read_twice(
                model, [r.activations.text for r in readings],
                [[(int(i), int(j)) for i, j in r.activations.word_spans] for r in readings],
            )
        return [with_exponents(standardized_influence(one, self._profile), 1) for one in shares]


def attention_read_twice(model: LanguageModel) -> RelativeAttention:
    """Attention relative to distance in a causal model that is given the text twice, as influence is measured there.

    Raises
    ------
    ModelError
        The model is no causal one, so that it is read once in any case.
    """
    check_causal(model)
    return RelativeAttention(model, reading="twice")


def attention_shares(activations: Any) -> FloatArray:
    """Attention between words (A H, n, n), the diagonal left out; in a causal model both directions are the one."""
    maps = activations.word_attention()
    maps = maps.reshape(-1, *maps.shape[2:]) * ~np.eye(maps.shape[-1], dtype=np.bool_)
    return np.asarray(maps + np.swapaxes(maps, -1, -2) if activations.causal else maps)


def shares_read_twice(model: LanguageModel, texts: Sequence[str], words: Sequence[Any]) -> list[FloatArray]:
    """Attention (A H, n, n) of the words of the second copy of each text to those of both copies together."""
    both = [doubled(text, list(spans)) for text, spans in zip(texts, words, strict=True)]
    found = []
    for activations in capture_activations(model, [text for text, _ in both], words=[spans for _, spans in both]):
        maps = activations.word_attention()
        maps = maps.reshape(-1, *maps.shape[2:])
        n = maps.shape[-1] // 2
        found.append((maps[:, n:, :n] + maps[:, n:, n:]) * ~np.eye(n, dtype=np.bool_))
    return found


def attention_profile(model: LanguageModel, reading: Reading = "once") -> DistanceProfile:
    """What attention of each head is usually at each distance, in the packaged text."""
    texts = background_sentences(background_text(), PROFILE_SENTENCES)
    if reading == "twice":
        items = [prepare_reading(model, text, None, "truncate", reading) for text in texts]
        shares = shares_read_twice(model, [item.text for item in items], [item.spans for item in items])
    else:
        shares = [attention_shares(a) for a in capture_activations(model, texts, overflow="truncate")]
    return distance_profile([row_ratios(one) for one in shares])
