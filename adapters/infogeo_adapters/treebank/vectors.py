"""Families of word graphs from the vectors of the words: cosine, Euclidean, and Fisher-Rao distances of distributions.

All of them compare the words of one sentence layer by layer, without any label. Vectors of words are the means of those
of their tokens (:meth:`infogeo.LayerActivations.word_vectors`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from infogeo import Categorical, DiagonalGaussian, fisher_rao_distance, pairwise
from infogeo._checks import FloatArray, check_memory
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo.estimation import Background
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.backgrounds import packaged_background
from infogeo_adapters.transformers.capture import capture_background
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import find_readout, readout_for
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

BackgroundChoice = Background | str | tuple[str, ...] | None
"""A background, a text or texts to estimate it from, or None for the sample that ships with infogeo."""

VectorMeasure = Literal["cosine", "centered cosine", "Euclidean"]
MEASURES: tuple[VectorMeasure, ...] = ("cosine", "centered cosine", "Euclidean")

_backgrounds: weakref.WeakKeyDictionary[LanguageModel, dict[tuple[str | None, BackgroundChoice], Background]] = (
    weakref.WeakKeyDictionary()
)
"""Measured once for each model, number format and text, and shared by the families."""


@dataclass(eq=False)
class VectorDistances:
    r"""How alike the vectors of words are: cosine, cosine about the mean of a background, or Euclidean distance.

    The closeness of words with vectors :math:`h_i` is :math:`\cos(h_i, h_j)`,
    :math:`\cos(h_i - \mu, h_j - \mu)` with the mean :math:`\mu` of word vectors of the layer in a background text, or
    :math:`-\lVert h_i - h_j \rVert`.

    Parameters
    ----------
    model : LanguageModel
    measure : {"cosine", "centered cosine", "Euclidean"}
    layers : tuple of int, optional
        Which layers, all by default; 0 is the embedding.
    background : Background, str, tuple of str or None
        Needed for the mean; by default the sample that ships with infogeo.

    Raises
    ------
    ArgumentError
        There is no such measure or layer.
    DomainError
        In :meth:`closeness`, if a vector is zero and has no direction (word and layer are named).
    """

    model: LanguageModel
    measure: VectorMeasure = "cosine"
    layers: tuple[int, ...] | None = None
    background: BackgroundChoice = None
    kind: FamilyKind = field(default="vectors", init=False)

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ArgumentError(f"measure: found {self.measure!r}, wanted one of {', '.join(MEASURES)}")
        self._layers = checked_layers(self.model, self.layers)

    @property
    def name(self) -> str:
        """The measure, and the layer where it is only one."""
        return f"layer-{self._layers[0]} {self.measure}" if len(self._layers) == 1 else self.measure

    @property
    def variants(self) -> tuple[str, ...]:
        """Layers."""
        return _names(self._layers)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Measure the mean of the background where it is subtracted."""
        if self.measure == "centered cosine":
            background_of(model, self.background)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers, n, n)."""
        if self.measure == "Euclidean":
            return [-_euclidean(vectors_of(r.activations, self._layers)) for r in readings]
        mean: FloatArray = np.zeros((len(self._layers), 1, 1))
        if self.measure == "centered cosine":
            mean = background_of(model, self.background).mean[list(self._layers), None]
        return [_cosines(r.activations, vectors_of(r.activations, self._layers) - mean, self._layers) for r in readings]


@dataclass(eq=False)
class SharedCovarianceDistances:
    r"""Fisher-Rao distance of normals around the words' vectors, with one covariance for all words of a layer.

    .. math:: d_{ij} = 2 \sqrt 2 \, \mathrm{arsinh}\frac{\Delta_{ij}}{2 \sqrt 2}, \qquad
              \Delta_{ij}^2 = (h_i - h_j)^\top \Sigma^{-1} (h_i - h_j)

    as :func:`infogeo.fisher_rao_distance` of :func:`infogeo.shared_covariance_normals`, with the covariance
    :math:`\Sigma` of word vectors in a background text, shrunk by the rule of Ledoit and Wolf. Closeness is minus the
    distance. The covariance of a layer is factored once and not for each sentence.

    Parameters
    ----------
    model : LanguageModel
    layers : tuple of int, optional
        Which layers, all by default.
    background : Background, str, tuple of str or None
        By default the sample that ships with infogeo.

    Raises
    ------
    ArgumentError
        There is no such layer.
    """

    model: LanguageModel
    layers: tuple[int, ...] | None = None
    background: BackgroundChoice = None
    name: str = field(default="Fisher-Rao, shared covariance", init=False)
    kind: FamilyKind = field(default="vectors", init=False)

    def __post_init__(self) -> None:
        self._layers = checked_layers(self.model, self.layers)
        self._factors: tuple[Background, FloatArray] | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Layers."""
        return _names(self._layers)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the covariance of each layer from the background, and factor it."""
        self._factored(model)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers, n, n)."""
        from scipy.linalg import solve_triangular

        factors = self._factored(model)
        vectors = [vectors_of(r.activations, self._layers) for r in readings]
        ends = np.cumsum([v.shape[1] for v in vectors])
        together = np.concatenate(vectors, axis=1)
        white = np.stack([
            solve_triangular(factor, of_layer.T, lower=True).T
            for factor, of_layer in zip(factors, together, strict=True)
        ])
        scale = 2 * np.sqrt(2)
        return [-scale * np.arcsinh(_euclidean(v) / scale) for v in np.split(white, ends[:-1], axis=1)]

    def _factored(self, model: LanguageModel) -> FloatArray:
        """Lower Cholesky factors (K, d, d)."""
        background = background_of(model, self.background)
        if self._factors is not None and self._factors[0] is background:
            return self._factors[1]
        covariances = np.stack([background.shrunk_covariance(layer)[0] for layer in self._layers])
        factors: FloatArray = np.asarray(np.linalg.cholesky(covariances), dtype=np.float64)
        self._factors = background, factors
        return factors


@dataclass(eq=False)
class ComponentNormalDistances:
    """Fisher-Rao distance of univariate normals, each fitted to the components of a word's vector.

    The plain construction of Deb and Ogunfunmi 2025 (:func:`infogeo.component_normals`): of each vector only mean and
    variance of its components count. Closeness is minus the distance.

    Parameters
    ----------
    model : LanguageModel
    layers : tuple of int, optional
        Which layers, all by default.

    Raises
    ------
    ArgumentError
        There is no such layer.
    DomainError
        In :meth:`closeness`, if all components of a vector are equal (word and layer are named).
    """

    model: LanguageModel
    layers: tuple[int, ...] | None = None
    name: str = field(default="Fisher-Rao, normals of components", init=False)
    kind: FamilyKind = field(default="vectors", init=False)

    def __post_init__(self) -> None:
        self._layers = checked_layers(self.model, self.layers)

    @property
    def variants(self) -> tuple[str, ...]:
        """Layers."""
        return _names(self._layers)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers, n, n)."""
        found = []
        for reading in readings:
            vectors = vectors_of(reading.activations, self._layers)
            variance = vectors.var(axis=-1)
            _check_positive(reading.activations, variance, self._layers, "all components of the vector of {} are equal")
            normals = DiagonalGaussian(vectors.mean(axis=-1)[..., None], variance[..., None])
            found.append(-np.asarray(fisher_rao_distance(normals[:, :, None], normals[:, None]), dtype=np.float64))
        return found


@dataclass(eq=False)
class ReadoutDistances:
    r"""Fisher-Rao distance on the simplex between what the model predicts at the words, at every layer.

    .. math:: d_{ij} = 2 \arccos \sum_v \sqrt{p_i(v) \, p_j(v)}

    with :math:`p_i` the softmax over the vocabulary, read out at the last token of word i as
    :func:`infogeo.readout_categoricals` does. Closeness is minus the distance. What is held at once is the predictions
    of one sentence at one layer, 8 bytes for each word and token of the vocabulary, and copies of them.

    Parameters
    ----------
    model : LanguageModel
        With a head that predicts tokens.
    layers : tuple of int, optional
        Which layers, all by default.
    memory : float
        Bytes that the read-out and the distances may take besides.

    Raises
    ------
    ModelError
        The model has no head, or is an encoder beside a decoder, which predicts nothing by itself.
    ArgumentError
        There is no such layer, or ``memory`` is no positive number.
    """

    model: LanguageModel
    layers: tuple[int, ...] | None = None
    memory: float = 256e6
    name: str = field(default="Fisher-Rao, read-out", init=False)
    kind: FamilyKind = field(default="vectors", init=False)

    def __post_init__(self) -> None:
        self._layers = checked_layers(self.model, self.layers)
        check_memory("memory", self.memory)
        if self.model.kind == "encoder-decoder":
            raise ModelError(
                f"{self.model.name}: the words of a treebank are read by the encoder, which predicts nothing by "
                "itself; leave the read-out out"
            )
        find_readout(self.model)

    @property
    def variants(self) -> tuple[str, ...]:
        """Layers."""
        return _names(self._layers)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Find the head."""
        find_readout(model)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers, n, n)."""
        return [np.stack(self._distances(model, reading.activations)) for reading in readings]

    def _distances(self, model: LanguageModel, activations: LayerActivations) -> list[FloatArray]:
        found = readout_for(model, activations, None)
        last = activations.pooling_matrix("last").argmax(axis=1)
        distances = []
        for layer in self._layers:
            states = activations.hidden_states[layer][last]
            logits = np.concatenate([some for _, some in found.chunks(states, memory=self.memory)])
            words = Categorical.from_logits(logits)
            distances.append(-pairwise(fisher_rao_distance, words, memory=self.memory))
        return distances


def background_of(model: LanguageModel, choice: BackgroundChoice = None) -> Background:
    """The background, estimated when it is first asked for with these weights and this text."""
    if isinstance(choice, Background):
        return choice
    if choice is None:
        return packaged_background(model)
    known = _backgrounds.setdefault(model, {})
    key = (model.current_source().content_hash, choice)
    if key not in known:
        known[key] = capture_background(model, choice)
    return known[key]


def checked_layers(model: LanguageModel, layers: tuple[int, ...] | None) -> tuple[int, ...]:
    """The layers, or all there are, as numbers from 0 up."""
    check_model(model)
    depth = find_stack(model.model).depth
    chosen = tuple(range(depth + 1)) if layers is None else tuple(layers)
    wrong = [n for n in chosen if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 0 <= n <= depth]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise ArgumentError(
            f"layers: found {layers!r}, wanted different whole numbers from 0 (embedding) to {depth} (last block)"
        )
    return tuple(int(n) for n in chosen)


def _names(layers: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"layer {layer}" for layer in layers)


def vectors_of(activations: LayerActivations, layers: tuple[int, ...]) -> FloatArray:
    """Vectors of the words at some layers (K, n, d)."""
    states = activations.hidden_states[list(layers)].astype(np.float64)
    return np.asarray(activations.pooling_matrix("mean") @ states)


def _euclidean(vectors: FloatArray) -> FloatArray:
    """Distances (K, n, n) of vectors (K, n, d), from differences."""
    from scipy.spatial.distance import cdist

    return np.stack([cdist(v, v) for v in vectors])


def _cosines(activations: LayerActivations, vectors: FloatArray, layers: tuple[int, ...]) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=-1)
    _check_positive(activations, norms, layers, "the vector of {} is zero and has no direction")
    unit = vectors / norms[..., None]
    found = unit @ np.swapaxes(unit, 1, 2)
    return np.asarray((found + np.swapaxes(found, 1, 2)) / 2)


def _check_positive(activations: LayerActivations, values: FloatArray, layers: tuple[int, ...], what: str) -> None:
    """Raise unless all of (K, n) are above zero."""
    bad = np.argwhere(values <= 0)
    if len(bad):
        at, word = bad[0]
        shown = f"word {word} ({activations.words[word]!r}) at layer {layers[at]}"
        raise DomainError(f"{what.format(shown)}; leave this layer out with layers=")
