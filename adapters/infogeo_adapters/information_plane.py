"""The information plane of a transformer, layer by layer, and the words of a sentence on a plane of their own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, IntArray, as_array, check_count, sealed
from infogeo._units import Unit, per_nat
from infogeo.activations import LayerActivations
from infogeo.distances import fisher_rao_distance
from infogeo.entropy import entropy_of_log_probs
from infogeo.errors import ArgumentError, ShapeError, TextError
from infogeo.estimates import EstimateWarning
from infogeo.families import Categorical
from infogeo.information_planes import InformationPlane, NoiseScale, PlaneEstimator, UserEstimator, information_plane
from infogeo.results import Result, Source
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import ReadOut, UserReadOut, read_out, readout_for

Labels = Sequence[ArrayLike]
Quantity = Literal["entropy", "surprisal", "information", "geodesic", "path"]


def model_information_plane(
    model: LanguageModel,
    texts: Sequence[str] | Sequence[LayerActivations],
    *,
    inputs: Literal["identity", "distinct"] | Labels = "identity",
    target: Literal["next", "identity"] | Labels | None = "next",
    frequent: int | None = None,
    estimator: PlaneEstimator | UserEstimator = "kmeans",
    noise: float | None = None,
    noise_scale: NoiseScale = "layer",
    clusters: int | None = None,
    bins: int = 30,
    components: int | None = None,
    neighbors: int = 3,
    draws: int = 4,
    corrected: bool = True,
    level: float | None = 0.95,
    name: str | None = None,
    rng: Any = None,
    unit: Unit = "nats",
) -> InformationPlane:
    r"""Information of a model's token states with the token itself and with the next one, layer by layer [1]_.

    Each token of each text is a sample: T its state at a layer, X by default its number in the vocabulary, Y that of
    the token after it in the same text. Special tokens are left out, and so is the last token of a text where Y is the
    next one. Texts are the groups of the intervals.

    The true information is not a matter of estimation alone: without noise the state at the embedding determines the
    token, and later ones nearly always do. See :func:`infogeo.information_plane` for what each estimator
    gives instead; its result says it too.

    Parameters
    ----------
    model : LanguageModel
    texts : sequence of str, or of LayerActivations
        At least three for intervals; see :func:`split_into_windows` for long ones.
    inputs : {"identity", "distinct"} or sequence
        X: the token's number; every token an input of its own; or labels, for each text one of all its tokens together
        or one for each of its tokens (special ones counted, as in ``LayerActivations.tokens``).
    target : {"next", "identity"}, sequence or None
        Y: the next token's number, the token's own, labels as above, or none.
    frequent : int, optional
        Keep the samples whose own token, and whose next token if it is the target, are among so many most frequent
        tokens of the texts. With fewer samples than a hundred for each token, rare ones drown the estimate.
    estimator, noise, noise_scale, clusters, bins, components, neighbors, draws, corrected, level, rng, unit
        As in :func:`infogeo.information_plane`.
    name : str, optional
        What the model is called in tables and pictures; by default its own name.

    Returns
    -------
    InformationPlane
        Layer 0 is the embedding. Several, one for each checkpoint, make an :class:`infogeo.InformationPath`.

    Raises
    ------
    ArgumentError
        If an argument has no such value, or fewer than 4 samples are left.
    ShapeError
        If labels do not fit the texts.
    TextError
        If a text is empty or too long.

    References
    ----------
    .. [1] E. Voita, R. Sennrich, I. Titov, "The bottom-up evolution of representations in the transformer",
       EMNLP 2019, arXiv 1909.01380.

    Examples
    --------
    >>> from infogeo_adapters import load_model, split_into_windows
    >>> from infogeo_adapters.models import background_text
    >>> model = load_model()
    >>> texts = split_into_windows(model, " ".join(background_text().split()[:1500]), max_tokens=128)
    >>> plane = model_information_plane(model, texts, target=None, frequent=10, clusters=10, rng=0)
    >>> plane.layers, plane.input_name, bool(plane.input_information[6] < plane.input_information[0])
    ((0, 1, 2, 3, 4, 5, 6), 'token', True)
    """
    captured = _captured(model, texts)
    target = target.tolist() if isinstance(target, np.ndarray) else target
    inputs = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
    if not (target is None or isinstance(target, Sequence)) or (target not in ("next", "identity") and isinstance(
        target, str
    )):
        raise ArgumentError(f"target: found {target!r}, wanted 'next', 'identity', labels by text, or None")
    if (isinstance(inputs, str) and inputs not in ("identity", "distinct")) or not isinstance(inputs, Sequence):
        raise ArgumentError(f"inputs: found {inputs!r}, wanted 'identity', 'distinct', or labels by text")
    places = [_places(acts, follows=isinstance(target, str) and target == "next") for acts in captured]
    own = np.concatenate([acts.token_ids[p] for acts, p in zip(captured, places, strict=True)])
    x, x_name = _labels("inputs", inputs, captured, places, own)
    y, y_name = (None, "") if target is None else _labels("target", target, captured, places, own)
    keep = np.arange(len(own))
    if frequent is not None:
        ids, counts = np.unique(np.concatenate([a.token_ids[~a.special] for a in captured]), return_counts=True)
        common = ids[np.argsort(-counts, kind="stable")[: check_count("frequent", frequent, 1)]]
        kept = np.isin(own, common)
        if y is not None and isinstance(target, str) and target == "next":
            kept &= np.isin(y, common)
        keep = np.flatnonzero(kept)
    if len(keep) < 4:
        raise ArgumentError(
            f"texts: {len(keep)} samples are left, wanted at least 4; give more texts, or raise frequent"
        )
    group = np.concatenate([np.full(len(p), i) for i, p in enumerate(places)])
    layers = [
        np.concatenate([a.hidden_states[layer][p] for a, p in zip(captured, places, strict=True)])[keep]
        for layer in range(captured[0].n_layers + 1)
    ]
    source = captured[0].source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)  # given again below, where the caller's line is known
        plane = information_plane(
            layers, None if x is None else x[keep], None if y is None else y[keep], estimator=estimator, noise=noise,
            noise_scale=noise_scale, clusters=clusters, bins=bins, components=components, neighbors=neighbors,
            draws=draws, corrected=corrected, groups=group[keep], level=level, names=(x_name, y_name), rng=rng,
            unit=unit, source=replace(source, text_hash=None).with_options(texts=len(captured), frequent=frequent),
        )
    for text in plane.warnings:
        warnings.warn(text, EstimateWarning, stacklevel=2)
    return replace(plane, name=name if name is not None else source.model or "")


def _captured(model: LanguageModel, texts: Any) -> list[LayerActivations]:
    if isinstance(texts, str | LayerActivations) or not isinstance(texts, Sequence) or not len(texts):
        found = "an empty list" if isinstance(texts, list | tuple) and not texts else type(texts).__name__
        raise TextError(f"texts: found {found}, wanted a list of at least one text")
    if all(isinstance(t, LayerActivations) for t in texts):
        shapes = {(t.n_layers, t.dimension) for t in texts}
        if len(shapes) > 1:
            raise ShapeError(f"texts: found activations of {len(shapes)} different shapes (blocks, width), "
                             f"{sorted(shapes)}; capture all with one model")
        return list(texts)
    return capture_activations(model, list(texts), attention=False)


def _places(acts: LayerActivations, *, follows: bool) -> IntArray:
    """Ordinary tokens; if their next ones are wanted, those before another ordinary token."""
    ordinary = ~acts.special
    if follows:
        ordinary = ordinary & np.append(ordinary[1:], False)
    return np.flatnonzero(ordinary)


def _labels(
    argument: str, given: Any, captured: list[LayerActivations], places: list[IntArray], own: IntArray
) -> tuple[NDArray[Any] | None, str]:
    if isinstance(given, str):
        if given == "distinct":
            return None, "sample"
        if given == "identity":
            return own, "token"
        return np.concatenate([a.token_ids[p + 1] for a, p in zip(captured, places, strict=True)]), "next token"
    if len(given) != len(captured):
        raise ShapeError(f"{argument}: found {len(given)} entries for {len(captured)} texts, wanted one for each")
    parts = []
    for i, (value, acts, p) in enumerate(zip(given, captured, places, strict=True)):
        array = as_array(f"{argument}[{i}]", value)
        if array.ndim > 1 or (array.ndim == 1 and len(array) != len(acts.tokens)):
            raise ShapeError(f"{argument}[{i}]: found shape {array.shape}, wanted one label, or one for each of the "
                             f"{len(acts.tokens)} tokens of text {i}")
        parts.append(np.broadcast_to(array, (len(acts.tokens),))[p])
    return np.concatenate(parts), "label"


@dataclass(frozen=True, eq=False, kw_only=True)
class WordsOnPlane(Result):
    """Where the words of a text stand at each layer: what is predicted after them, and how far they have come.

    All five come from the prediction q read out at the word's last token (logit lens).
    """

    words: tuple[str, ...]
    entropy: FloatArray
    """(L + 1, n) entropy of q: how open the continuation is."""
    surprisal: FloatArray
    """(L + 1, n) minus log q of the token that follows; NaN where none does."""
    information: FloatArray
    """(L + 1, n) Kullback–Leibler divergence of q from the mean of q over the words of the text: what this word's
    state tells of the prediction. Its mean over the words is the information between word and predicted token."""
    geodesic: FloatArray
    """(L + 1, n) Fisher–Rao distance of q from that at the embedding, 0 to pi radians: how far the prediction has
    come from the one that the word's identity alone gives."""
    path: FloatArray
    """(L + 1, n) length of the way there: the Fisher–Rao distances from layer to layer, added up, in radians."""
    unit: Unit
    """Of the first three."""
    name: str = ""
    source: Source = field(default_factory=Source)

    def quantity(self, name: Quantity) -> FloatArray:
        """One of the five arrays by its name."""
        if name not in ("entropy", "surprisal", "information", "geodesic", "path"):
            raise ArgumentError(f"quantity: found {name!r}, wanted entropy, surprisal, information, geodesic or path")
        values: FloatArray = getattr(self, name)
        return values

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("layer", "place", "word", "information", "geodesic", "path", "entropy", "surprisal")
        table = [
            (layer, w, word, *(float(self.quantity(q)[layer, w])  # type: ignore[arg-type]
                               for q in columns[3:]))
            for layer in range(len(self.entropy)) for w, word in enumerate(self.words)
        ]
        return columns, table

    def summary(self) -> str:
        return f"WordsOnPlane of {len(self.words)} words at {len(self.entropy)} layers, in {self.unit}"


def words_on_plane(
    model: LanguageModel,
    text: str | LayerActivations,
    *,
    readout: ReadOut | UserReadOut | None = None,
    unit: Unit = "nats",
) -> WordsOnPlane:
    r"""Place the words of a text on a plane at each layer: their information against how far they have come.

    With q the prediction read out at word w and layer l (logit lens) and n words,

    .. math:: i_{l,w} = D\Bigl(q_{l,w} \Big\| \frac1n \sum_v q_{l,v}\Bigr), \qquad
              g_{l,w} = d(q_{0,w}, q_{l,w}), \qquad p_{l,w} = \sum_{k \le l} d(q_{k-1,w}, q_{k,w}), \qquad
              d(q, r) = 2 \arccos \sum_y \sqrt{q(y)\, r(y)}

    The first is the specific information of the word about the predicted token [1]_: its mean over w is the
    mutual information of a word drawn at random and the token predicted after it, exactly, and at most log n. The
    second is the length of the geodesic on the simplex of predictions (Fisher–Rao [2]_) from what the embedding of the
    word predicts to what layer l does, at most pi, which is reached where the two have no outcome in common; the third
    the length of the way taken, layer by layer. At the embedding both are zero.

    Where positions are added to the embedding (GPT-2, BERT), layer 0 knows the word and its place; with rotary
    positions the word alone.

    Parameters
    ----------
    model : LanguageModel
    text : str or LayerActivations
    readout : callable or ReadOut, optional
        As in :func:`logit_lens`.
    unit : {"nats", "bits"}

    Returns
    -------
    WordsOnPlane

    Raises
    ------
    ModelError
        If the model predicts no tokens.
    TextError, ArgumentError
        If there is no text, or the activations are another model's.

    References
    ----------
    .. [1] M. R. DeWeese, M. Meister, "How to measure the information gained from one symbol", Network 10, 1999.
    .. [2] C. Atkinson, A. F. S. Mitchell, "Rao's distance measure", Sankhya A 43, 1981.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> placed = words_on_plane(load_model(), "The dog ran home.")
    >>> placed.path.shape, bool((placed.geodesic <= placed.path + 1e-9).all())
    ((7, 5), True)
    """
    from scipy.special import logsumexp

    scale = per_nat(unit)
    acts = capture_activations(model, text, attention=False) if isinstance(text, str) else text
    if not isinstance(acts, LayerActivations):
        raise ArgumentError(f"text: found {type(text).__name__}, wanted one text or its LayerActivations")
    n = len(acts.words)
    if not n:
        raise TextError("text: found no words, wanted at least one")
    found = readout_for(model, acts, readout)
    last = np.array([np.flatnonzero(acts.token_words == w)[-1] for w in range(n)])
    follows = np.minimum(last + 1, len(acts.tokens) - 1)
    known = (last + 1 < len(acts.tokens)) & ~acts.special[follows] & (found.predicts == "next")
    shape = (acts.n_layers + 1, n)
    entropy, surprisal, information, geodesic, path = (np.full(shape, np.nan) for _ in range(5))
    start = before = None
    for layer in range(len(entropy)):
        log_q = read_out(model, acts, layer, readout=found)[last]
        entropy[layer] = entropy_of_log_probs(log_q)
        surprisal[layer, known] = -log_q[known, acts.token_ids[follows[known]]]
        mean = logsumexp(log_q, axis=0) - np.log(n)
        information[layer] = (np.exp(log_q) * (log_q - mean)).sum(axis=1)
        here = Categorical.from_logits(log_q)
        if start is None or before is None:
            geodesic[layer] = path[layer] = 0.0
            start = here
        else:
            geodesic[layer] = fisher_rao_distance(start, here)
            path[layer] = path[layer - 1] + fisher_rao_distance(before, here)
        before = here
    return WordsOnPlane(
        words=acts.words, entropy=sealed(scale * entropy), surprisal=sealed(scale * surprisal),
        information=sealed(scale * information), geodesic=sealed(geodesic), path=sealed(path), unit=unit,
        name=acts.source.model or "",
        source=acts.source.with_options(readout=", ".join((*found.path, *found.scalings))),
    )
