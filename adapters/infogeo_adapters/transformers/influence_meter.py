"""What influence graphs are made of: influence of words taken away and of edges cut, and what is usual of each."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo.evidence import row_ratios
from infogeo.influence import DistanceProfile, Manifold, distance_profile, normal_lengths
from infogeo.results import Source
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers._edge_reader import check_blocks
from infogeo_adapters.transformers._removal_readout import prediction_readout
from infogeo_adapters.transformers.backgrounds import background_sentences
from infogeo_adapters.transformers.echo import Reading
from infogeo_adapters.transformers.edge_influence import EdgeMeter
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence import Distribution, measure_influence
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import HideWord, Removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations

Edge = SupportsIndex | tuple[SupportsIndex, SupportsIndex]
"""A block, or a block and one of its heads, all counted from 1."""
PROFILE_SENTENCES = 120
"""Sentences of the packaged text that say what is usual at each distance."""


def default_layers(depth: int) -> tuple[int, ...]:
    """The layers influence is read at if none are named: the two after two thirds of the blocks.

    Chosen on the first half of an English treebank with a model of six blocks, where they are layers 4 and 5; earlier
    ones say which word stands beside which, the last ones what the whole sentence is about.

    Examples
    --------
    >>> default_layers(6), default_layers(12), default_layers(1)
    ((4, 5), (8, 9), (1,))
    """
    first = max(1, -(-2 * depth // 3))
    return tuple(range(first, min(first + 1, depth) + 1))


def default_edges(blocks: Iterable[int], depth: int) -> tuple[int, ...]:
    """The blocks whose single edges count if none are named: those of the upper two thirds that have attention.

    Examples
    --------
    >>> default_edges(range(1, 7), 6)
    (3, 4, 5, 6)
    """
    return tuple(b for b in blocks if b > depth // 3)


@dataclass(eq=False)
class InfluenceMeter:
    """Measurements of influence on one model, words taken away and single edges cut, and what is usual of each.

    Parameters
    ----------
    model : LanguageModel
    layers : sequence of int
        Layers at which influence of words taken away is read; none if empty.
    edges : sequence of (int, int or None)
        Blocks, or heads of blocks, whose single edges are cut; none if empty.
    removal : str or Removal
        How words are taken away.
    reading : {"once", "twice"}
    distribution : {"effects", "states", "readout"}
        Of words taken away; edges are measured by effects always.
    manifold : {"fixed covariance", "all normals"}

    Raises
    ------
    ArgumentError
        A block has no attention, a head is not there, or an argument has no such value.
    ModelError
        Words cannot be taken away so, attention cannot be taken apart, or there is no head to read out.
    """

    model: LanguageModel
    layers: tuple[int, ...]
    edges: tuple[tuple[int, int | None], ...]
    removal: Removal
    reading: Reading
    distribution: Distribution = "effects"
    manifold: Manifold = "fixed covariance"
    left_out: str | None = None
    """Why no edges are cut though they would be by default; None where they are, or were not wanted."""
    _edge_meter: EdgeMeter | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        normal_lengths(0.0, self.manifold)
        if self.distribution not in get_args(Distribution):
            raise ArgumentError(
                f"distribution {self.distribution!r} does not exist; choose 'effects', 'states' or 'readout'"
            )
        blocks = self._checked_blocks() if self.edges else ()
        if self.layers:
            if self.distribution == "readout":
                prediction_readout(self.model)
            self.removal.ready(self.model, find_stack(self.model.model), 0)
        if blocks:
            self._edge_meter = EdgeMeter(self.model, blocks, "effects", self.reading, self.manifold)

    def _checked_blocks(self) -> tuple[int, ...]:
        heads = attending_blocks(self.model)
        for block, head in self.edges:
            if block not in heads:
                raise ArgumentError(f"edges: found block {block}, wanted one of {sorted(heads)}, which have attention")
            if head is not None and not 1 <= head <= heads[block]:
                raise ArgumentError(
                    f"edges: found head {head} of block {block}, which has the heads 1 to {heads[block]}"
                )
        return check_blocks(heads, [block for block, _ in self.edges])

    @property
    def names(self) -> tuple[str, ...]:
        """Of each measurement: ``layer 4``, ``block 3, head 9``, ``block 3``."""
        edges = (f"block {b}" if h is None else f"block {b}, head {h}" for b, h in self.edges)
        return (*(f"layer {layer}" for layer in self.layers), *edges)

    def measure(
        self, texts: Sequence[str], words: Sequence[Any], *, overflow: Overflow = "error", batch_tokens: int = 4096,
        captured: Sequence[LayerActivations] | None = None, progress: Callable[[int, int], object] | None = None,
    ) -> list[tuple[FloatArray, tuple[str, ...], Source]]:
        """Of each text influence (R, n, n), its words, and where it comes from."""
        parts: list[list[FloatArray]] = [[] for _ in texts]
        known: list[tuple[tuple[str, ...], Source]] = []
        if self.layers:
            found = measure_influence(
                self.model, list(texts), words=list(words), removal=self.removal, layers=self.layers,
                distribution=self.distribution, reading=self.reading, overflow=overflow, batch_tokens=batch_tokens,
                manifold=self.manifold, progress=progress,
            )
            for mine, influence in zip(parts, found, strict=True):
                mine.append(influence.values)
            known = [(influence.words, influence.source) for influence in found]
        if self._edge_meter is not None:
            of_edges = self._edge_meter.measure(
                texts, words, overflow=overflow, batch_tokens=batch_tokens, captured=captured,
                progress=None if self.layers else progress,
            )
            for mine, edge in zip(parts, of_edges, strict=True):
                at = [edge.blocks.index(block) for block, _ in self.edges]
                mine.append(np.stack([
                    edge.whole[a] if head is None else edge.heads[a, head - 1]
                    for a, (_, head) in zip(at, self.edges, strict=True)
                ]))
            known = known or [(edge.words, edge.source) for edge in of_edges]
        return [
            (np.concatenate(mine), *rest) for mine, rest in zip(parts, known, strict=True)
        ]

    def profile(self) -> DistanceProfile:
        """What is usual at each distance, from the text that ships with infogeo; kept for the model's lifetime.

        Raises
        ------
        DomainError
            A measurement is zero, or always the same, between words of some distance.
        """
        rows = _profiles.setdefault(self.model, {}).setdefault(
            (self.removal, self.reading, self.distribution, self.manifold, self.model.current_source().content_hash), {}
        )
        wanted = (*self.layers, *self.edges)
        if not all(one in rows for one in wanted):
            missing = self._with_missing(rows)
            texts = background_sentences(background_text(), PROFILE_SENTENCES)
            found = [row_ratios(values) for values, _, _ in missing.measure(
                texts, [None] * len(texts), overflow="truncate"
            )]
            for r, one in enumerate((*missing.layers, *missing.edges)):
                try:
                    rows[one] = distance_profile([values[r : r + 1] for values in found])
                except DomainError as error:
                    rows[one] = error
        chosen = [rows[one] for one in wanted]
        for name, row in zip(self.names, chosen, strict=True):
            if isinstance(row, DomainError):
                raise DomainError(
                    f"what is usual at each distance cannot be said of {self.model.name} by {name}: "
                    f"{row}; measure other layers or edges, or use another normalization"
                ) from row
        profiles = [row for row in chosen if isinstance(row, DistanceProfile)]
        reach = min(p.mean.shape[1] for p in profiles)
        return DistanceProfile(**{
            part: np.concatenate([getattr(p, part)[:, :reach] for p in profiles])
            for part in ("mean", "deviation", "counts")
        })

    def _with_missing(self, known: Container[Hashable]) -> InfluenceMeter:
        """A meter of what has no profile yet; of words at all layers that move, since one pass gives them all."""
        layers = tuple(layer for layer in self.layers if layer not in known)
        if layers and self.distribution != "readout":  # a read-out costs a product with the vocabulary for each layer
            every = moved_layers(self.removal, find_stack(self.model.model).depth)
            layers = tuple(layer for layer in dict.fromkeys((*self.layers, *every)) if layer not in known)
        edges = tuple(edge for edge in self.edges if edge not in known)
        return replace(self, layers=layers, edges=edges)


_Profiles = dict[Hashable, dict[Hashable, DistanceProfile | DomainError]]
_profiles: weakref.WeakKeyDictionary[LanguageModel, _Profiles] = weakref.WeakKeyDictionary()
"""Of each model, by how is measured, the profile of each layer and edge by itself, or why there is none."""


def moved_layers(removal: Removal, depth: int) -> tuple[int, ...]:
    """Layers after blocks at which a word may move: those from the first block on in which words are hidden.

    Examples
    --------
    >>> moved_layers(HideWord(), 3), moved_layers(HideWord(blocks=(2,)), 3)
    ((1, 2, 3), (2, 3))
    """
    first = min(removal.blocks) if isinstance(removal, HideWord) and removal.blocks else 1
    return tuple(range(first, depth + 1))


def make_meter(
    model: LanguageModel, layers: Any, edges: Any, removal: Removal, reading: Reading, distribution: Distribution,
) -> InfluenceMeter:
    """A meter of what is asked for, or of the defaults; what a model cannot do of the defaults is left out.

    Raises
    ------
    ArgumentError
        There is nothing to measure.
    ModelError
        What is asked for cannot be done.
    """
    depth = find_stack(model.model).depth
    if layers is None:
        chosen = default_layers(depth)
    else:
        chosen = tuple(dict.fromkeys(_layer(one, depth) for one in _listed("layers", layers)))
    if edges is None:
        try:
            cut: tuple[tuple[int, int | None], ...]
            cut = tuple((b, None) for b in default_edges(attending_blocks(model), depth))
            return InfluenceMeter(model, chosen, cut, removal, reading, distribution)
        except ModelError as error:
            if not chosen:
                raise
            return InfluenceMeter(model, chosen, (), removal, reading, distribution, left_out=str(error))
    cut = tuple(dict.fromkeys(_edge(one) for one in _listed("edges", edges)))
    if not chosen and not cut:
        raise ArgumentError("layers and edges: found neither, wanted at least one layer or one block")
    return InfluenceMeter(model, chosen, cut, removal, reading, distribution)


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, SupportsIndex):
        return [value]
    try:
        return list(value)
    except TypeError as error:
        raise ArgumentError(f"{name}: found {value!r}, wanted whole numbers counted from 1 in a list") from error


def _layer(value: Any, depth: int) -> int:
    number = _number("layers", value)
    resolved = number + depth + 1 if number < 0 else number
    if not 1 <= resolved <= depth:
        raise ArgumentError(
            f"layers: found {number}, wanted layers 1 to {depth}; at layer 0, the embedding, no word moves another"
        )
    return resolved


def _edge(value: Any) -> tuple[int, int | None]:
    if isinstance(value, SupportsIndex):
        return _number("edges", value, 1), None
    try:
        block, head = value
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"edges: found {value!r}, wanted a block, or (block, head), counted from 1") from error
    return _number("edges", block, 1), _number("edges", head, 1)


def _number(name: str, value: Any, least: int | None = None) -> int:
    if isinstance(value, bool):
        raise ArgumentError(f"{name}: found {value!r}, wanted a whole number")
    return check_count(name, value, least)
