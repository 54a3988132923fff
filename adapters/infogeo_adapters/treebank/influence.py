"""Families of influence graphs: words taken away, single edges cut, and both together."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError, ModelError
from infogeo.evidence import (
    PRIOR_EXPONENT,
    log_offsets,
    relation_evidence,
    row_ratios,
    standardized_influence,
)
from infogeo.influence import (
    NORMALIZATIONS,
    DistanceProfile,
    Manifold,
    distance_profile,
    row_entropies,
    symmetrized_influence,
)
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.echo import Reading, doubled, find_reading, prepare_reading
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence import Distribution, background_sentences
from infogeo_adapters.transformers.influence_graphs import (
    PROFILE_SENTENCES,
    InfluenceMeter,
    default_edges,
    default_layers,
)
from infogeo_adapters.transformers.removal import HideWord, Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._facts import IN_VARIANTS

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

EXPONENTS = (1.0, 1.25, 1.5, 2.0)
"""Exponents of the prior by distance that are tried."""
JOINT_EXPONENTS = (1.25, 1.5)
"""Those that are tried where many measurements are combined."""
WAYS = ("rows", "none", "symmetric", "product")
MOST_VARIANTS = 5_000
"""Variants of two measurements together above which fewer are tried: closeness of a batch then takes up to 0.8 GB."""


@dataclass(eq=False)
class Measurements:
    """Influence of the sentences of a batch, measured once for all families that ask for it."""

    model: LanguageModel
    removal: Removal
    reading: Reading
    distribution: Distribution
    words: bool
    """Whether words are taken away, at all layers after blocks; else single edges are cut, in all heads and blocks."""
    manifold: Manifold = "fixed covariance"
    _last: tuple[list[LayerActivations], list[FloatArray]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        layers: tuple[int, ...] = ()
        edges: tuple[tuple[int, int | None], ...] = ()
        if self.words:
            layers = moved_layers(self.removal, find_stack(self.model.model).depth)
        else:
            heads = attending_blocks(self.model)
            edges = (*((b, h + 1) for b in heads for h in range(heads[b])), *((b, None) for b in heads))
        self.meter = InfluenceMeter(
            self.model, layers, edges, self.removal, self.reading, self.distribution, self.manifold
        )

    def of(self, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """Influence (R, n, n) of each sentence."""
        now = [r.activations for r in readings]
        if self._last is None or len(now) != len(self._last[0]) or any(
            a is not b for a, b in zip(now, self._last[0], strict=True)
        ):
            words = [[(int(i), int(j)) for i, j in r.activations.word_spans] for r in readings]
            found = self.meter.measure(
                [r.activations.text for r in readings], words, captured=now
            )
            self._last = (now, [values for values, _, _ in found])
        return self._last[1]


_shared: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Measurements]] = weakref.WeakKeyDictionary()


def measurements(
    model: LanguageModel, *, words: bool, removal: str = "hide", reading: Reading | None = None,
    distribution: Distribution = "effects", blocks: tuple[int, ...] | None = None,
    manifold: Manifold = "fixed covariance",
) -> Measurements:
    """Those of a model, the same object for all families that ask for the same."""
    check_model(model)
    way = find_reading(model, reading)
    taken = find_removal(removal, blocks)
    key = (words, taken, way, distribution, manifold, model.current_source().content_hash)
    kept = _shared.setdefault(model, {})
    if key not in kept:
        kept[key] = Measurements(model, taken, way, distribution, words, manifold)
    return kept[key]


def _exponents(sums: FloatArray, count: int) -> FloatArray:
    """Standardized influence (R, n, n) with each exponent of the prior, (R E, n, n), all exponents of one in a row."""
    prior = log_offsets(sums.shape[-1])
    tried = sums[:, None] / count - np.multiply.outer(np.asarray(EXPONENTS), prior)
    return np.asarray(tried.reshape(-1, *sums.shape[1:]))


@dataclass(eq=False)
class WordInfluence:
    """Influence of words taken away, by layer and normalization: how far the distribution of one moves without another.

    Closeness is the geometric mean of both directions.

    Parameters
    ----------
    model : LanguageModel
    removal : {"hide", "mask", "delete", "mean", "resample"}
    distribution : {"effects", "states", "readout"}
    reading : {"once", "twice"}, optional
        By default twice in a row for causal models.
    blocks : tuple of int, optional
        With ``removal="hide"`` the blocks in which words are hidden; all by default.
    manifold : {"fixed covariance", "all normals"}
    """

    model: LanguageModel
    removal: str = "hide"
    distribution: Distribution = "effects"
    reading: Reading | None = None
    blocks: tuple[int, ...] | None = None
    manifold: Manifold = "fixed covariance"
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        if self.distribution == "readout" and not self.model.has_head:
            raise ModelError(f"{self.model.name} has no head, so that no prediction can be read out")
        taken = find_removal(self.removal, self.blocks)
        taken.ready(self.model, find_stack(self.model.model), 0)
        self.variants = tuple(f"layer {layer}, {way}" for layer in moved_layers(taken, depth) for way in WAYS)

    @property
    def name(self) -> str:
        """``influence, word hidden``, with a word on what is not the default."""
        removed = {"hide": "hidden", "mask": "masked", "delete": "deleted", "mean": "averaged", "resample": "resampled"}
        of = {"effects": "", "states": ", states", "readout": ", read-out"}[self.distribution]
        once = ", read once" if self.reading == "once" and find_stack(self.model.model).causal else ""
        where = "" if self.blocks is None else f" in blocks {', '.join(map(str, self.blocks))}"
        among = "" if self.manifold == "fixed covariance" else f", {self.manifold}"
        return f"influence, word {removed[self.removal]}{where}{of}{among}{once}"

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the covariance of effects, from the packaged text."""
        self._measured = measurements(
            model, words=True, removal=self.removal, reading=self.reading, distribution=self.distribution,
            blocks=self.blocks, manifold=self.manifold,
        )

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers x normalizations, n, n)."""
        causal = self.reading == "once" and find_stack(model.model).causal
        found = []
        for values in self._measured.of(readings):
            ways = [symmetrized_influence(NORMALIZATIONS[way](values), causal=causal) for way in WAYS]
            found.append(np.stack(ways, axis=1).reshape(-1, *values.shape[1:]))
        return found


def _check_causal(model: LanguageModel) -> None:
    check_model(model)
    if not find_stack(model.model).causal:
        raise ModelError(f"{model.name} is no causal model; every word sees every other one when the text is read once")


def read_once(model: LanguageModel) -> WordInfluence:
    """Influence in a causal model that is given the text once: only later words are moved.

    Raises
    ------
    ModelError
        The model is no causal one, so that it is read once in any case.
    """
    _check_causal(model)
    return WordInfluence(model, reading="once")


def attention_read_twice(model: LanguageModel) -> RelativeAttention:
    """Attention relative to distance in a causal model that is given the text twice, as influence is measured there.

    Raises
    ------
    ModelError
        The model is no causal one, so that it is read once in any case.
    """
    _check_causal(model)
    return RelativeAttention(model, reading="twice")


@dataclass(eq=False)
class RelativeInfluence:
    """Influence of words taken away beyond what is usual so far apart, with a prior by distance.

    Variants are single layers and two or three in a row, by exponents of the prior.

    Parameters
    ----------
    model : LanguageModel
    removal : {"hide", "mask", "delete", "mean", "resample"}
    reading : {"once", "twice"}, optional
    """

    model: LanguageModel
    removal: str = "hide"
    reading: Reading | None = None
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        self._sets = layer_sets(find_stack(self.model.model).depth)
        self.variants = tuple(f"{set_name(s)}, prior {e}" for s in self._sets for e in EXPONENTS)

    @property
    def name(self) -> str:
        """``influence relative to distance``, with a word on the removal if it is not the default."""
        return "influence relative to distance" + (f", {self.removal}" if self.removal != "hide" else "")

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariance and what is usual at each distance, from the packaged text."""
        self._measured = measurements(model, words=True, removal=self.removal, reading=self.reading)
        self._profile = self._measured.meter.profile()

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layer sets x exponents, n, n)."""
        found = []
        for values in self._measured.of(readings):
            z = standardized_influence(values, self._profile)
            found.append(_exponents(np.stack([z[[layer - 1 for layer in s]].mean(axis=0) for s in self._sets]), 1))
        return found


@dataclass(eq=False)
class EdgeInfluenceGraphs:
    """Influence of single edges, by head and by block: geometric mean of both directions of the shares of rows.

    Parameters
    ----------
    model : LanguageModel
        With attention that can be taken apart.
    relative : bool
        Beyond what is usual so far apart, with a prior by distance.
    reading : {"once", "twice"}, optional
    """

    model: LanguageModel
    relative: bool = False
    reading: Reading | None = None
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        parts = edge_names(self.model)
        self.variants = tuple(f"{p}, prior {e}" for p in parts for e in EXPONENTS) if self.relative else parts

    @property
    def name(self) -> str:
        """``influence, edge cut``, and ``relative to distance`` where it is."""
        return "influence, edge cut" + ", relative to distance" * self.relative

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the covariance of effects, from the packaged text."""
        self._measured = measurements(model, words=False, reading=self.reading)
        self._profile = self._measured.meter.profile() if self.relative else None

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (heads + blocks, n, n), or as many for each exponent."""
        causal = self.reading == "once" and find_stack(model.model).causal
        found = []
        for values in self._measured.of(readings):
            if self._profile is None:
                found.append(symmetrized_influence(NORMALIZATIONS["rows"](values), causal=causal))
            else:
                found.append(_exponents(standardized_influence(values, self._profile), 1))
        return found


@dataclass(eq=False)
class JointInfluence:
    """Words taken away and single edges cut, together: mean of both beyond what is usual so far apart, with a prior.

    Parameters
    ----------
    model : LanguageModel
        With attention that can be taken apart.
    choice : {"labels", "none"}
        ``labels``: layers of the upper half and two of them in a row, each with every head and block and two exponents
        of the prior, are variants. ``none``: one variant, the defaults of :func:`infogeo_adapters.influence_graph`,
        chosen for no model in particular.
    reading : {"once", "twice"}, optional
    most_variants : int
        Where there are more variants, since they grow with blocks times heads times layers, single layers only are
        taken; if there are still more, the default exponent only; and if there are still more, the default layers of
        :func:`infogeo_adapters.influence_graph` together instead of single ones. Every head and block is always tried.

    Raises
    ------
    ModelError
        The model has no attention, or words cannot be hidden in it.
    ArgumentError
        ``choice`` is something else, or ``most_variants`` no positive whole number.
    """

    model: LanguageModel
    choice: Literal["labels", "none"] = "labels"
    reading: Reading | None = None
    most_variants: int = field(default=MOST_VARIANTS, metadata={IN_VARIANTS: True})
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        if self.choice not in ("labels", "none"):
            raise ArgumentError(f"choice: found {self.choice!r}, wanted 'labels' or 'none'")
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        parts = edge_names(self.model)
        most = check_count("most_variants", self.most_variants, 1)
        self._sets, self._exponents = joint_choices(depth, len(parts), most)
        if self.choice == "labels":
            self.variants = tuple(
                f"{set_name(s)} with {p}, prior {e}" for s in self._sets for p in parts for e in self._exponents
            )
        else:
            edges = default_edges(attending_blocks(self.model), depth)
            self.variants = (
                f"{set_name(default_layers(depth))} with blocks {edges[0]} to {edges[-1]}, prior {PRIOR_EXPONENT}",
            )

    @property
    def name(self) -> str:
        """``influence, word and edge``, and ``without choice`` where nothing is chosen."""
        return "influence, word and edge" + ", without choice" * (self.choice == "none")

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariances and what is usual at each distance, from the packaged text."""
        self._words = measurements(model, words=True, reading=self.reading)
        self._edges = measurements(model, words=False, reading=self.reading)
        self._profiles = self._words.meter.profile(), self._edges.meter.profile()

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence one (n, n) of each variant."""
        found = []
        for values, cut in zip(self._words.of(readings), self._edges.of(readings), strict=True):
            z = standardized_influence(values, self._profiles[0])
            edges = standardized_influence(cut, self._profiles[1])
            if self.choice == "none":
                depth = len(z)
                names = list(edge_names(self.model))
                blocks = [names.index(f"block {b}") for b in default_edges(attending_blocks(model), depth)]
                together = np.concatenate([z[[layer - 1 for layer in default_layers(depth)]], edges[blocks]])
                found.append(relation_evidence(together, prior_exponent=PRIOR_EXPONENT)[None])
                continue
            prior = np.multiply.outer(np.asarray(self._exponents), log_offsets(z.shape[-1]))
            tried = [
                (z[[layer - 1 for layer in s]].sum(axis=0) + edges)[:, None] / (len(s) + 1) - prior for s in self._sets
            ]
            found.append(np.concatenate(tried).reshape(-1, *z.shape[1:]))
        return found


@dataclass(eq=False)
class UnsupervisedInfluence:
    """Influence of words taken away at the layer that is chosen without labels, by how concentrated influence is there.

    The layer is the one of the upper half whose rows of influence have the least mean entropy, over the log of the
    number of other words, in the packaged text.

    Parameters
    ----------
    model : LanguageModel
    reading : {"once", "twice"}, optional
    """

    model: LanguageModel
    reading: Reading | None = None
    kind: FamilyKind = field(default="influence", init=False)
    name: str = field(default="influence, layer by entropy", init=False)
    variants: tuple[str, ...] = field(default=("layer of least entropy, rows",), init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Choose the layer on the packaged text."""
        self._measured = measurements(model, words=True, reading=self.reading)
        chosen = background_sentences(background_text(), PROFILE_SENTENCES)
        found = self._measured.meter.measure(chosen, [None] * len(chosen), overflow="truncate")
        shares = [
            np.nanmean(row_entropies(values), axis=1) / np.log(values.shape[-1] - 1)
            for values, _, _ in found if values.shape[-1] > 2
        ]
        entropies = np.mean(shares, axis=0)
        half = len(entropies) // 2
        self.layer = half + 1 + int(np.argmin(entropies[half:]))

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (1, n, n)."""
        causal = self.reading == "once" and find_stack(model.model).causal
        return [
            symmetrized_influence(NORMALIZATIONS["rows"](values[self.layer - 1 : self.layer]), causal=causal)
            for values in self._measured.of(readings)
        ]


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
        return [_exponents(standardized_influence(one, self._profile), 1) for one in shares]


@dataclass(eq=False)
class InfluenceWithAttention:
    """Words taken away together with the weights of single heads: geometry and attention combined.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    reading : {"once", "twice"}, optional
        Of influence; attention is of the text given once.
    most_variants : int
        Where there are more, fewer layers and exponents are tried, as in :class:`JointInfluence`, with every head.

    Raises
    ------
    ModelError
        The model has no attention, or words cannot be hidden in it.
    ArgumentError
        ``most_variants`` is no positive whole number.
    """

    model: LanguageModel
    reading: Reading | None = None
    most_variants: int = field(default=MOST_VARIANTS, metadata={IN_VARIANTS: True})
    kind: FamilyKind = field(default="combination", init=False)
    name: str = field(default="influence with attention", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        heads = attending_blocks(self.model)
        names = [f"block {b}, head {h + 1}" for b in heads for h in range(heads[b])]
        most = check_count("most_variants", self.most_variants, 1)
        self._sets, self._exponents = joint_choices(depth, len(names), most)
        self.variants = tuple(
            f"{set_name(s)} with attention of {p}, prior {e}"
            for s in self._sets for p in names for e in self._exponents
        )

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariance and what is usual at each distance, from the packaged text."""
        self._words = measurements(model, words=True, reading=self.reading)
        self._profiles = self._words.meter.profile(), attention_profile(model)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence one (n, n) of each variant."""
        found = []
        for values, reading in zip(self._words.of(readings), readings, strict=True):
            z = standardized_influence(values, self._profiles[0])
            heads = standardized_influence(attention_shares(reading.activations), self._profiles[1])
            prior = np.multiply.outer(np.asarray(self._exponents), log_offsets(z.shape[-1]))
            tried = [
                (z[[layer - 1 for layer in s]].sum(axis=0) + heads)[:, None] / (len(s) + 1) - prior for s in self._sets
            ]
            found.append(np.concatenate(tried).reshape(-1, *z.shape[1:]))
        return found


def moved_layers(removal: Removal, depth: int) -> tuple[int, ...]:
    """Layers after blocks at which a word may move: those from the first block on in which words are hidden.

    Examples
    --------
    >>> moved_layers(find_removal("hide"), 3), moved_layers(find_removal("hide", [2]), 3)
    ((1, 2, 3), (2, 3))
    """
    first = min(removal.blocks) if isinstance(removal, HideWord) and removal.blocks else 1
    return tuple(range(first, depth + 1))


def layer_sets(depth: int) -> tuple[tuple[int, ...], ...]:
    """Single layers after blocks, and two and three in a row.

    Examples
    --------
    >>> layer_sets(3)
    ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3))
    """
    return tuple(
        tuple(range(first, first + size)) for size in (1, 2, 3) for first in range(1, depth - size + 2)
    )


def joint_choices(depth: int, parts: int, most: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
    """Layer sets and exponents that are tried with each of so many heads and blocks: the first choice that is not more.

    Examples
    --------
    >>> sets, exponents = joint_choices(12, 156, 5_000)  # 12 blocks of 12 heads
    >>> sets, len(sets) * len(exponents) * 156
    (((7,), (8,), (9,), (10,), (11,), (12,), (7, 8), (8, 9), (9, 10), (10, 11), (11, 12)), 3432)
    >>> joint_choices(24, 408, 5_000)[1]  # 24 blocks of 16 heads
    (1.5,)
    """
    upper = tuple(s for s in layer_sets(depth) if s[0] > depth // 2 and len(s) < 3)
    single = tuple(s for s in upper if len(s) == 1)
    one = (PRIOR_EXPONENT,)
    for sets, exponents in ((upper, JOINT_EXPONENTS), (single, JOINT_EXPONENTS), (single, one)):
        if len(sets) * parts * len(exponents) <= most:
            return sets, exponents
    return (tuple(default_layers(depth)),), one


def set_name(layers: Sequence[int]) -> str:
    """``layer 4``, ``layers 4 and 5``, ``layers 4 to 6``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"layers {layers[0]} {'and' if len(layers) == 2 else 'to'} {layers[-1]}"


def edge_names(model: LanguageModel) -> tuple[str, ...]:
    """Heads block by block, then blocks.

    Raises
    ------
    ModelError
        The model has no attention.
    """
    heads = attending_blocks(model)
    return (*(f"block {b}, head {h + 1}" for b in heads for h in range(heads[b])), *(f"block {b}" for b in heads))


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
