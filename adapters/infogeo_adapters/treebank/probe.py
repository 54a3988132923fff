"""The structural probe of Hewitt and Manning: how much of the trees a linear map finds in vectors, with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import (
    FloatArray,
    as_float_array,
    check_count,
    check_number,
    check_shape,
    random_generator,
    sealed,
)
from infogeo.errors import ArgumentError, ShapeError
from infogeo.results import Result, Source
from infogeo_adapters.treebank._probe_training import START, Part, squared_distances, train_map
from infogeo_adapters.treebank.vectors import checked_layers, vectors_of

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

@dataclass(frozen=True, eq=False, kw_only=True)
class StructuralProbe(Result):
    """A linear map under which squared distances of word vectors are near to path lengths in dependency trees."""

    matrix: FloatArray
    """(rank, d) the map B."""
    layer: int | None
    """Layer of the vectors, None if it was not said."""
    train_loss: FloatArray
    """(epochs,) mean loss of the steps of each epoch."""
    dev_loss: FloatArray
    """(epochs,) loss on the dev part after each epoch."""
    learning_rates: FloatArray
    """(epochs,)"""
    best_epoch: int
    """Epoch whose map is kept, counted from 1."""
    converged: bool
    """Whether training ended because the loss on the dev part went down no more, and not for want of epochs."""
    dev_attachment: float
    """Share of the gold relations of the dev part that spanning trees have, without punctuation (UUAS)."""
    n_train: int
    """Sentences trained on."""
    n_dev: int
    """Sentences that training was watched on."""
    source: Source

    @property
    def rank(self) -> int:
        """Number of rows of the map."""
        return len(self.matrix)

    @property
    def label(self) -> str:
        """Layer and rank, in short."""
        layer = "" if self.layer is None else f"layer {self.layer}, "
        return f"{layer}rank {self.rank}" + ("" if self.converged else ", not converged")

    def distances(self, vectors: Sequence[ArrayLike]) -> list[FloatArray]:
        r"""Predicted path lengths :math:`\lVert B (h_i - h_j) \rVert^2` between the words of each sentence.

        Parameters
        ----------
        vectors : sequence of array_like, shape (n, d)

        Returns
        -------
        list of ndarray, shape (n, n)

        Raises
        ------
        ShapeError
            If vectors are of another width than those trained on.
        """
        found = []
        for k, one in enumerate(vectors):
            array = as_float_array(f"vectors[{k}]", one)
            check_shape(f"vectors[{k}]", array, (None, self.matrix.shape[1]))
            found.append(squared_distances((array @ self.matrix.T)[None])[0])
        return found

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = self.train_loss.tolist(), self.dev_loss.tolist(), self.learning_rates.tolist()
        table = zip(range(1, len(self.train_loss) + 1), *columns, strict=True)
        return ("epoch", "train_loss", "dev_loss", "learning_rate"), list(table)

    def summary(self) -> str:
        end = "converged" if self.converged else "not converged"
        return (
            f"StructuralProbe, {self.label.removesuffix(', not converged')}: {end} after {len(self.dev_loss)} epochs "
            f"on {self.n_train} sentences, UUAS {self.dev_attachment:.3f} on {self.n_dev} others"
        )


def fit_structural_probe(
    vectors: Sequence[ArrayLike],
    trees: Sequence[DependencyTree],
    *,
    rank: SupportsIndex = 64,
    max_epochs: SupportsIndex = 200,
    rng: SupportsIndex = 0,
    dev: float = 0.1,
    layer: int | None = None,
) -> StructuralProbe:
    r"""Train a structural probe: the linear map whose squared distances are path lengths in dependency trees.

    .. math:: \min_B \sum_s \frac{1}{n_s^2} \sum_{i, j} \Bigl\lvert d^s_{ij} - \lVert B (h^s_i - h^s_j) \rVert^2
              \Bigr\rvert

    over sentences s of :math:`n_s` words with vectors :math:`h^s_i` and path lengths :math:`d^s_{ij}` in the gold trees
    [1]_. It is trained with labels, so what it reaches on other sentences is a ceiling for methods without.

    Training is by Adam in steps of 20 sentences, as in the paper. After three epochs in which the loss on a dev part
    does not fall by 0.0001 the learning rate falls to a tenth, with moments set back and from the best map so far, and
    training ends where it would fall below 0.00001. Gradients are exact and all numbers float64, so that the same seed
    gives the same map. Two choices differ from the paper, since a treebank may have hundreds of sentences where that
    has forty thousand:

    1. It lowers the rate after a single epoch without progress; here an epoch is a few steps, and one without progress
       an accident.
    2. Its code draws the entries of the first map between -0.05 and 0.05. Here they are drawn uniformly and scaled so
       that squared distances begin at a tenth of path lengths: what is drawn in directions that few sentences say
       anything about stays in the map, and a larger one costs UUAS. Vectors are divided by the root mean square of
       their entries about the mean of each sentence, which changes nothing about which maps there are.

    Parameters
    ----------
    vectors : sequence of array_like, shape (n, d)
        Vectors of the words of each sentence, for example :meth:`infogeo.LayerActivations.word_vectors`.
    trees : sequence of DependencyTree
        Of the same sentences.
    rank : int
        Rows of B, at most d. From about 64 on the paper finds no gain.
    max_epochs : int
        Most rounds through the sentences. ``converged`` says whether they sufficed.
    rng : int
        Seed of the dev part, of the order of sentences, and of the first map.
    dev : float
        Share of the sentences that are not trained on and say when to stop.
    layer : int, optional
        Recorded in the result, nothing more.

    Returns
    -------
    StructuralProbe

    Raises
    ------
    ShapeError
        If there is not one array for each tree with one row for each word, or widths differ.
    DomainError
        If vectors are not finite, or all the same.
    ArgumentError
        If fewer than two sentences have two words, or an argument has no such value.

    See Also
    --------
    choose_structural_probe : Also chooses the layer and the rank, on the dev part.

    References
    ----------
    .. [1] J. Hewitt, C. D. Manning, "A structural probe for finding syntax in word representations", NAACL 2019,
       section 2, and the code published with it.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree
    >>> trees = [DependencyTree.from_words(("a", "b", "c"), heads) for heads in ([1, -1, 1], [-1, 0, 0]) * 200]
    >>> places = np.array([tree.distances() for tree in trees], dtype=float)
    >>> probe = fit_structural_probe(places, trees, rank=3)
    >>> probe.dev_attachment, probe.converged
    (1.0, True)
    """
    rank, max_epochs, seed = (check_count(n, v, least) for n, v, least in (
        ("rank", rank, 1), ("max_epochs", max_epochs, 1), ("rng", rng, 0)
    ))
    share = check_number("dev", dev)
    if not 0 < share < 1:
        raise ArgumentError(f"dev: found {share:g}, wanted a share of the sentences between 0 and 1, such as 0.1")
    arrays = _checked(vectors, trees)
    width = arrays[0].shape[1]
    if rank > width:
        raise ArgumentError(f"rank: found {rank}, wanted at most the width of the vectors, {width}")
    usable = [s for s, tree in enumerate(trees) if len(tree) > 1]
    if len(usable) < 2:
        raise ArgumentError(
            f"trees: found {len(usable)} with two words or more, wanted at least one to train on and one to stop by"
        )
    generator = random_generator(seed)
    order = generator.permutation(usable)
    n_dev = min(len(order) - 1, max(1, round(share * len(order))))
    train, held_out = (
        Part.of([arrays[s] for s in some], [trees[s] for s in some]) for some in (order[n_dev:], order[:n_dev])
    )
    scale = train.scale()
    train, held_out = train.divided(scale), held_out.divided(scale)
    first = generator.uniform(-1, 1, (rank, width))
    first *= np.sqrt(START / train.stretch(first))
    training = train_map(train, held_out, first, max_epochs, generator)
    probe = StructuralProbe(
        matrix=sealed(training.best / scale), layer=layer, train_loss=sealed(np.array(training.train_loss)),
        dev_loss=sealed(np.array(training.dev_loss)), learning_rates=sealed(np.array(training.rates)),
        best_epoch=training.best_epoch, converged=training.converged, dev_attachment=float("nan"),
        n_train=len(order) - n_dev, n_dev=n_dev,
        source=Source(seed=seed, options={"rank": rank, "dev": share, "max_epochs": max_epochs, "layer": layer}),
    )
    reached = _attachment(probe.distances([arrays[s] for s in order[:n_dev]]), [trees[s] for s in order[:n_dev]])
    return dataclasses.replace(probe, dev_attachment=reached)


def choose_structural_probe(
    layers: Mapping[int, Sequence[ArrayLike]],
    trees: Sequence[DependencyTree],
    *,
    ranks: Sequence[int] = (64,),
    max_epochs: SupportsIndex = 200,
    rng: SupportsIndex = 0,
    dev: float = 0.1,
) -> StructuralProbe:
    """Train a structural probe for each layer and rank, and keep the one that does best on the dev part.

    Best is the largest share of gold relations (UUAS without punctuation), and of equals the smallest loss. All are
    trained on the same sentences and stopped by the same others, so the score of the chosen one on these is too good:
    report it on sentences that are not given here.

    Parameters
    ----------
    layers : mapping from int to sequence of array_like, shape (n, d)
        For each layer the vectors of the words of each sentence.
    trees : sequence of DependencyTree
    ranks : sequence of int
        Ranks to try; one that is larger than the width of the vectors counts as the width.
    max_epochs, rng, dev
        As in :func:`fit_structural_probe`.

    Returns
    -------
    StructuralProbe

    Raises
    ------
    ArgumentError
        If there is no layer or no rank, and as in :func:`fit_structural_probe`.
    ShapeError, DomainError
        As in :func:`fit_structural_probe`.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree
    >>> trees = [DependencyTree.from_words(("a", "b", "c"), heads) for heads in ([1, -1, 1], [-1, 0, 0]) * 40]
    >>> places = [tree.distances().astype(float) for tree in trees]
    >>> noise = list(np.random.default_rng(0).normal(size=(80, 3, 3)))
    >>> choose_structural_probe({0: noise, 1: places}, trees, ranks=[2, 3]).layer
    1
    """
    if not layers or not len(ranks):
        raise ArgumentError(f"layers, ranks: found {len(layers)} and {len(ranks)}, wanted at least one of each")
    tried = []
    for layer, vectors in layers.items():
        width = np.shape(vectors[0])[-1] if len(vectors) and np.ndim(vectors[0]) == 2 else max(ranks)
        tried += [
            fit_structural_probe(vectors, trees, rank=rank, max_epochs=max_epochs, rng=rng, dev=dev, layer=layer)
            for rank in dict.fromkeys(min(rank, width) for rank in ranks)
        ]
    return max(tried, key=_quality)


@dataclass(eq=False)
class StructuralProbes:
    """The structural probe as a family of word graphs: trained on the part of the sentences that choices are made on.

    The layer and the rank are chosen on a share of that part which is not trained on
    (:func:`choose_structural_probe`). Closeness is minus the predicted path length.

    Parameters
    ----------
    model : LanguageModel
    ranks : tuple of int
        Ranks to try.
    layers : tuple of int, optional
        Layers to try, all by default; 0 is the embedding. What is kept of each sentence until training are the vectors
        of its words at all of them, in single precision.
    max_epochs : int
    dev : float
    seed : int

    Raises
    ------
    ArgumentError
        There is no such layer.
    """

    model: LanguageModel
    ranks: tuple[int, ...] = (64,)
    layers: tuple[int, ...] | None = None
    max_epochs: int = 200
    dev: float = 0.1
    seed: int = 0
    name: str = field(default="structural probe", init=False)
    kind: FamilyKind = field(default="supervised", init=False)

    def __post_init__(self) -> None:
        self._layers = checked_layers(self.model, self.layers)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def features(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[NDArray[np.float32]]:
        """For each sentence the vectors of its words (layers, n, d)."""
        return [vectors_of(r.activations, self._layers).astype(np.float32) for r in readings]

    def fit(self, features: Sequence[NDArray[Any]], trees: Sequence[DependencyTree]) -> FittedProbe:
        """Train a probe for each layer and rank."""
        layers = {layer: [f[k] for f in features] for k, layer in enumerate(self._layers)}
        probe = choose_structural_probe(
            layers, trees, ranks=self.ranks, max_epochs=self.max_epochs, rng=self.seed, dev=self.dev
        )
        return FittedProbe(probe=probe, place=self._layers.index(int(probe.layer or 0)))


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedProbe:
    """A trained probe and which of the kept layers it reads."""

    probe: StructuralProbe
    place: int

    @property
    def label(self) -> str:
        """Layer and rank."""
        return self.probe.label

    def closeness(self, features: Sequence[NDArray[Any]]) -> list[FloatArray]:
        """For each sentence (1, n, n)."""
        return [-one[None] for one in self.probe.distances([f[self.place] for f in features])]


# Checks and scores


def _checked(vectors: Sequence[ArrayLike], trees: Sequence[DependencyTree]) -> list[FloatArray]:
    if len(vectors) != len(trees):
        raise ShapeError(f"vectors: found {len(vectors)} arrays for {len(trees)} trees, wanted one for each")
    arrays: list[FloatArray] = []
    for k, (one, tree) in enumerate(zip(vectors, trees, strict=True)):
        array = as_float_array(f"vectors[{k}]", one)
        check_shape(f"vectors[{k}]", array, (len(tree), None if not arrays else arrays[0].shape[1]))
        arrays.append(array)
    return arrays


def _attachment(distances: Sequence[FloatArray], trees: Sequence[DependencyTree]) -> float:
    from infogeo.tree_scores import score_closeness

    scores = [score_closeness(-d[None], tree) for d, tree in zip(distances, trees, strict=True)]
    kept = sum(int(s.kept.sum()) for s in scores)
    return sum(int(s.hits_without_punctuation.sum()) for s in scores) / kept if kept else float("nan")


def _quality(probe: StructuralProbe) -> tuple[float, float]:
    """Larger is better."""
    score = probe.dev_attachment
    return (-1.0 if np.isnan(score) else score, -float(probe.dev_loss.min()))
