"""How far a word's distribution moves when the input of another moves a little: the pulled-back Fisher metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex, overload

import numpy as np

from infogeo._checks import FloatArray, IntArray, as_float_array, check_progress, check_shape, sealed
from infogeo.activations import Pooling
from infogeo.background import Background, ShrinkageRule, ledoit_wolf
from infogeo.errors import ArgumentError, DomainError
from infogeo.influence import EffectsBackground, Influence
from infogeo.results import Source
from infogeo_adapters.transformers._local_metrics import (
    DISTRIBUTIONS,
    Distribution,
    Metric,
    NormalMetric,
    ReadOutMetric,
    UnitMetric,
)
from infogeo_adapters.transformers._local_rows import Direction, Estimator, Reading, push_all
from infogeo_adapters.transformers._local_setup import (
    Setup,
    Start,
    check_choice,
    checked_effects,
    make_readings,
    make_setup,
    measure_effects,
    move_name,
    packaged_effects,
    packaged_sentences,
)
from infogeo_adapters.transformers._local_tangents import Differentiation
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import several_texts, words_of_each
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.loading import LanguageModel


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalInfluence(Influence):
    """How far the distribution of each word moves on the statistical manifold when each other word moves a little.

    ``removal`` says which way words moved.
    """

    standard_error: FloatArray
    """(R, n, n) of the values, from the spread of the probes; zero where they are exact."""
    moved_at: int
    """Layer at which the words moved; 0 is the embedding."""
    direction: Direction
    estimator: Estimator

    def __post_init__(self) -> None:
        super().__post_init__()
        errors = as_float_array("standard_error", self.standard_error)
        check_shape("standard_error", errors, self.values.shape)
        if (errors < 0).any():
            raise DomainError(f"standard_error: found {errors.min():g}, wanted at least 0")
        object.__setattr__(self, "standard_error", sealed(errors))


@overload
def local_influence(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: str, *, words: Words | None = ..., layers: SupportsIndex | Iterable[int] | None = ...,
    at: Start = ..., direction: Direction = ..., distribution: Distribution = ...,
    estimator: Estimator | None = ..., probes: int = ..., background: Background | None = ...,
    effects: EffectsBackground | None = ..., shrinkage: float | ShrinkageRule = ..., pooling: Pooling = ...,
    overflow: Overflow = ..., batch_tokens: int = ..., rng: int | np.random.Generator | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> LocalInfluence: ...


@overload
def local_influence(
    model: LanguageModel, text: Sequence[str], *, words: Any = ..., layers: SupportsIndex | Iterable[int] | None = ...,
    at: Start = ..., direction: Direction = ..., distribution: Distribution = ...,
    estimator: Estimator | None = ..., probes: int = ..., background: Background | None = ...,
    effects: EffectsBackground | None = ..., shrinkage: float | ShrinkageRule = ..., pooling: Pooling = ...,
    overflow: Overflow = ..., batch_tokens: int = ..., rng: int | np.random.Generator | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> list[LocalInfluence]: ...


def local_influence(
    model: LanguageModel,
    text: str | Sequence[str],
    *,
    words: Any = None,
    layers: SupportsIndex | Iterable[int] | None = None,
    at: Start = "embedding",
    direction: Direction = "isotropic",
    distribution: Distribution = "states",
    estimator: Estimator | None = None,
    probes: int = 8,
    background: Background | None = None,
    effects: EffectsBackground | None = None,
    shrinkage: float | ShrinkageRule = ledoit_wolf,
    pooling: Pooling = "mean",
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
    rng: int | np.random.Generator | None = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LocalInfluence | list[LocalInfluence]:
    r"""Influence of each word on each other for small moves of its input: the Fisher metric pulled back to the inputs.

    With :math:`J_{ij}` the Jacobian of the pooled state of word i at layer :math:`\ell` by the states of the tokens of
    word j at layer ``at``, :math:`G_i` the Fisher information of the distribution that the state of word i stands
    for, and S the scale on which word j moves,

    .. math:: \mathrm{influence}(i, j)^2 = \mathrm{tr}(S\, J_{ij}^\top G_i J_{ij}),

    the mean square of the Fisher-Rao distance that word i travels when word j moves by a small random vector of
    covariance :math:`S`, relative to its size. A rank-one :math:`S = v v^\top` makes it the length of
    :math:`J_{ij} v` in the metric :math:`G_i`: what removes :math:`\epsilon v` from word j moves word i by
    :math:`\epsilon\, \mathrm{influence}(i, j) + O(\epsilon^2)`. With ``direction="deviation"`` the whole of it puts the
    mean vector in the word's place, so that this linearizes the removal of a word in favor of the mean.

    A Jacobian times a vector at word j (one row of a forward-mode pass) tells at once how all words move at all
    layers; so a direction costs n rows for a text of n words, and nothing is masked. Hutchinson's estimator draws signs
    :math:`z` and averages :math:`\lVert J A z \rVert_G^2` with :math:`S = A A^\top`. It is unbiased for the square [1]_
    and has the variance of probes at the outputs, as both matrices have the same eigenvalues (with normal probes; signs
    save the part of the diagonal). Probes for different words are independent.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`, in float32 or float64. Of an encoder-decoder model the encoder is
        taken.
    text : str or sequence of str
    words : optional
        As in :func:`capture_activations`.
    layers : int or iterable of int, optional
        Layers at which words are read, all after ``at`` by default; negative numbers count from the last.
    at : "embedding" or int
        Layer at which words are moved, 0 or "embedding" what goes into the first block.
    direction : {"isotropic", "covariance", "embedding", "deviation"}
        The scale S. ``"isotropic"`` is the identity for each token of the word; ``"covariance"`` the covariance of the
        background at the layer ``at``, shrunk, for each token; ``"embedding"`` the rank-one matrix of the word's own
        vector at the layer ``at``, that is of its tokens' vectors :math:`h_t` strung together; ``"deviation"`` that of
        :math:`h_t - \mu` with the mean :math:`\mu` of words in the background.
    distribution : {"states", "effects", "unit", "readout"}
        ``"states"`` are normals about the pooled state with the covariance of the background at that layer, whose
        Fisher information is its inverse; ``"effects"`` the same with the covariance of the moves
        :math:`J_{ij} v` that words make of other words; ``"unit"`` normals whose covariance is the identity, so that
        squares are plain sums; ``"readout"`` the categorical distribution that the model's
        final norm and unembedding make of the pooled state, with :math:`G_i = H^\top (\mathrm{diag}(p) - p p^\top) H`
        [2]_ and H the Jacobian of the logits.
    estimator : {"exact", "hutchinson"}, optional
        Of the trace. Exact takes one row for each dimension of each token; ``"hutchinson"`` one for each word and
        probe. By default Hutchinson's; where S has rank one there is one direction, always taken exactly.
    probes : int
        Of Hutchinson's estimator, at least 2.
    background : Background, optional
        Mean and covariance of word vectors, from :func:`capture_background`; by default that of the packaged text,
        measured once for a model. Not used, and not measured, where nothing depends on it.
    effects : Background, optional
        Of ``distribution="effects"``: covariance of moves, from :func:`local_effects` with the same ``at``; by
        default those in the first sentences of the packaged text, measured once for a model and choice.
    shrinkage : float or function
        Of the covariances; the intensities are in ``source.options``.
    pooling : {"mean", "first", "last"}
        How the tokens of a word that is read are turned into its vector. All tokens of a word that is moved are moved.
    overflow : {"error", "truncate"}
        As in :func:`capture_activations`.
    batch_tokens : int
        Most tokens in one batch of rows.
    rng : int, numpy.random.Generator or None
        For the probes. With an int each text has the same probes whatever texts are beside it.
    progress : callable, optional
        Called with the rows done and their number.

    Returns
    -------
    LocalInfluence, or a list of them
        ``values`` (R, n, n) are the roots of the squares above; a word's influence on itself is left out.
        ``standard_error`` is that of the probes' mean, carried to the root to first order: :math:`s / (2 \sqrt{K}\,
        \mathrm{influence})` with the deviation :math:`s` of K squares.

    Raises
    ------
    ArgumentError
        An argument has no such value, a layer is not after ``at``, or the model is in half precision.
    TextError
        A text is empty, too long, or has a word that no token stands for.
    ModelError
        An operation of the model has no derivative, or there is nothing to read out.
    DomainError
        The background is of another model, a covariance is singular, or a derivative is NaN or infinite.

    Notes
    -----
    In a causal model a later word moves no earlier one: those entries are zero.

    The derivative is taken forward; where an operation has none, by two backward passes, which takes about a quarter
    longer and keeps the graph of a batch in memory (``source.options["differentiation"]``).

    References
    ----------
    .. [1] M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
       splines, Communications in Statistics 19 (1990) 433-450, section 2.
    .. [2] S. Amari, Information Geometry and Its Applications, Springer 2016, section 2.2.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = local_influence(load_model(), "The old dog ran home.", at=2, layers=3, direction="embedding",
    ...                         distribution="readout")
    >>> found.words, found.values.shape
    (('The', 'old', 'dog', 'ran', 'home', '.'), (1, 6, 6))
    >>> bool((found.values[0, 0, 1:] == 0).all())  # the first word of a causal model sees no other
    True
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    setup = make_setup(
        model, at=at, layers=layers, direction=direction, estimator=estimator, probes=probes, background=background,
        shrinkage=shrinkage, pooling=pooling, batch_tokens=batch_tokens, overflow=overflow,
        states=distribution == "states",
    )
    check_progress(progress)
    one = isinstance(text, str)
    texts = [text] if isinstance(text, str) else several_texts(text)
    splits = [words] if one else words_of_each(words, len(texts))
    readings = make_readings(setup, texts, splits, overflow, rng, one=one)
    metric = _metric(setup, distribution, effects, shrinkage)
    sums = _Sums(metric, readings, setup)
    how = push_all(
        model, setup.stack, readings, setup.moves, sums.take, at=setup.at, layers=setup.layers,
        batch_tokens=batch_tokens, progress=progress,
    )
    seed = int(rng) if isinstance(rng, int | np.integer) and setup.moves.random else None
    options = {**setup.options, "distribution": distribution, "differentiation": how}
    found = [
        _result(sums, i, setup, distribution, r, replace(r.activations.source, seed=seed).with_options(**options))
        for i, r in enumerate(readings)
    ]
    return found[0] if one else found


def local_effects(
    model: LanguageModel,
    text: str | Sequence[str] | None = None,
    *,
    words: Any = None,
    layers: SupportsIndex | Iterable[int] | None = None,
    at: Start = "embedding",
    direction: Direction = "isotropic",
    estimator: Estimator | None = None,
    probes: int = 8,
    background: Background | None = None,
    shrinkage: float | ShrinkageRule = ledoit_wolf,
    pooling: Pooling = "mean",
    batch_tokens: int = 4096,
    rng: int | np.random.Generator | None = 0,
) -> EffectsBackground:
    r"""Mean and covariance of the moves :math:`J_{ij} v` that words make of other words, in some texts.

    It is what ``distribution="effects"`` of :func:`local_influence` takes for the noise: directions in which words
    move each other all the time count less. Pairs of a word with itself are left out, and in a causal model pairs in
    which the word that moves comes later.

    Parameters
    ----------
    model : LanguageModel
    text : str or sequence of str, optional
        By default the first hundred sentences of 4 to 30 words of the text that ships with infogeo.
    words, layers, at, direction, estimator, probes, background, shrinkage, pooling, batch_tokens, rng : optional
        As in :func:`local_influence`. With probes, each probe is a move.

    Returns
    -------
    EffectsBackground
        Of the layers that were read.

    Raises
    ------
    ArgumentError, TextError, ModelError, DomainError
        As :func:`local_influence` does; also if no word can move another.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = local_effects(load_model(), "The old dog ran home.", at=4, direction="embedding")
    >>> found.layers, found.n_effects  # each of six words moves the later ones
    ((5, 6), 15)
    """
    setup = make_setup(
        model, at=at, layers=layers, direction=direction, estimator=estimator, probes=probes, background=background,
        shrinkage=shrinkage, pooling=pooling, batch_tokens=batch_tokens, states=False,
    )
    texts = packaged_sentences() if text is None else [text] if isinstance(text, str) else several_texts(text)
    splits = [words] if isinstance(text, str) else words_of_each(words, len(texts))
    readings = make_readings(setup, texts, splits, "error", rng, one=isinstance(text, str))
    return measure_effects(setup, readings)


def _metric(
    setup: Setup, distribution: Distribution, effects: EffectsBackground | None, shrinkage: float | ShrinkageRule
) -> Metric:
    """Fisher information of the distributions; what was shrunk how far is put down in the options."""
    if effects is not None and distribution != "effects":
        raise ArgumentError(f"effects: found some for distribution={distribution!r}, which needs none; leave them out")
    if distribution == "readout":
        return ReadOutMetric(setup.model)
    if distribution == "unit":
        return UnitMetric()
    known: Background | EffectsBackground | None = setup.background
    if distribution == "effects":
        known = packaged_effects(setup) if effects is None else checked_effects(setup, effects)
    if known is None:
        raise ArgumentError(f"distribution {distribution!r} needs a background")
    metric = NormalMetric(known, setup.layers, shrinkage)
    setup.options.update({f"shrinkage_{layer}": intensity for layer, intensity in metric.intensities.items()})
    return metric


class _Sums:
    """Squares of each text and their squares, summed over directions."""

    def __init__(self, metric: Metric, readings: Sequence[Reading], setup: Setup) -> None:
        self.metric, self.layers, self.readings = metric, setup.layers, readings
        sizes = [len(r.item.spans) for r in readings]
        self.first = [np.zeros((len(self.layers), n, n)) for n in sizes]
        self.second = [np.zeros_like(a) for a in self.first]

    def take(self, number: int, words: IntArray, moved: FloatArray, how: Differentiation) -> None:
        """Add the squares of moves (R, K, n, d) that words (K,) made."""
        reading = self.readings[number]
        squares = np.stack([
            self.metric.squares(layer, reading.pooling @ reading.activations.hidden_states[layer], moved[r], how)
            for r, layer in enumerate(self.layers)
        ])
        for k, j in enumerate(words.tolist()):
            self.first[number][:, :, j] += squares[:, k]
            self.second[number][:, :, j] += squares[:, k] ** 2


def _result(
    sums: _Sums, number: int, setup: Setup, distribution: Distribution, reading: Reading, source: Source
) -> LocalInfluence:
    """Roots of the squares of one text, and their standard errors."""
    squares, acts = sums.first[number], reading.activations
    errors = np.zeros_like(squares)
    if setup.moves.random:
        k = setup.moves.probes
        squares = squares / k
        spread = np.maximum(sums.second[number] / k - squares**2, 0.0) / (k - 1)  # rounding may leave less than zero
        np.divide(np.sqrt(spread), 2 * np.sqrt(squares), out=errors, where=squares > 0)
    if not np.isfinite(squares).all():
        layer = setup.layers[int(np.flatnonzero(~np.isfinite(squares).all(axis=(1, 2)))[0])]
        raise DomainError(
            f"{setup.model.name}: the derivative of layer {layer} by layer {setup.at} holds NaN or infinity; the "
            "weights or the number format are at fault, load it with dtype='float64'"
        )
    for array in (squares, errors):
        array[:, np.arange(len(acts.words)), np.arange(len(acts.words))] = 0.0
    return LocalInfluence(
        values=np.sqrt(squares), standard_error=errors, words=acts.words, layers=setup.layers,
        removal=move_name(setup.at, setup.moves.direction), distribution=distribution, causal=acts.causal,
        moved_at=setup.at, direction=setup.moves.direction, estimator=setup.moves.estimator, source=source,
    )
