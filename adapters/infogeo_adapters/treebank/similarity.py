"""Distances between word types of a model against human judgments of similarity, read from a file of word pairs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from infogeo._checks import FloatArray, check_count, check_flag, check_progress, random_generator
from infogeo._pairs import Rng
from infogeo.activations import Pooling, resolve_layer
from infogeo.background import Background, check_background, check_same_model, ledoit_wolf
from infogeo.distances import cosine_distance, euclidean_distance, fisher_rao_distance
from infogeo.errors import ArgumentError, ConvergenceError, DomainError
from infogeo.families import Categorical, DiagonalGaussian, Family, PointMass, SharedCovarianceGaussian
from infogeo.measures import Measure
from infogeo.results import Source
from infogeo.word_similarity import SimilarityComparison, WordPairs, compare_similarities
from infogeo.word_types import diagonal_normals, full_normals, means_of_words, shared_normals
from infogeo_adapters.transformers.alignment import check_text
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.backgrounds import packaged_background
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import find_readout
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._occurrences import (
    Occurrences,
    Progress,
    Reading,
    index_of_words,
    read_alone,
    read_in_corpus,
)
from infogeo_adapters.treebank._word_pairs import read_word_pairs as read_word_pairs

COSINE = "cosine"
CENTERED = "cosine, centered"
EUCLIDEAN = "Euclidean"
COMPONENTS = "Fisher-Rao, normals of components"
BACKGROUND = "Fisher-Rao, covariance of a background"
WITHIN = "Fisher-Rao, covariance within words"
FULL = "Fisher-Rao, full normals in {} directions"
DIAGONAL = "Fisher-Rao, diagonal normals"
READ_OUT = "Fisher-Rao, read-out"
MEMORY = 256e6
"""Bytes of the distributions of pairs of words that are held at once, about."""


def compare_with_similarity(
    model: LanguageModel,
    pairs: WordPairs | Sequence[tuple[str, str, float]],
    *,
    corpus: str | Sequence[str] | None = None,
    template: str | None = None,
    layers: Sequence[int] | None = None,
    directions: int | Sequence[int] = 8,
    shrinkage: float = 0.5,
    min_count: int = 8,
    max_count: int = 32,
    max_tokens: int = 64,
    ignore_case: bool = True,
    background: Background | None = None,
    pooling: Pooling = "mean",
    batch_tokens: int = 4096,
    level: float = 0.95,
    resamples: int = 2000,
    rng: Rng = 0,
    progress: Progress | None = None,
) -> SimilarityComparison:
    """How well distances between the words of a model agree with human judgments of their similarity.

    A word is a vector: the mean of its vectors in a corpus, or, without one, the vector of the word read alone or in a
    plain text. At each layer these distances are taken, the layer chosen on one half of the pairs and reported on the
    other (:func:`~infogeo.compare_similarities`):

    * ``cosine`` (the reference) and ``Euclidean``, of the vectors; ``cosine, centered`` of the vectors less the mean of
      a background text;
    * ``Fisher-Rao, normals of components``: of the univariate normals of the components of the vectors;
    * ``Fisher-Rao, covariance of a background``: of normals around the vectors with one covariance for all, that of the
      vectors of all words in a background text;
    * ``Fisher-Rao, covariance within words``: the same with the covariance of occurrences around the mean of their word
      (with a corpus);
    * ``Fisher-Rao, full normals in 8 directions``: of a normal for each word with a covariance of its own, in the
      directions in which words differ most (with a corpus); the exact distance;
    * ``Fisher-Rao, diagonal normals``: of a normal for each word with variances of its own (with a corpus), along
      normals with independent coordinates;
    * ``Fisher-Rao, read-out``: of the distribution that the model predicts at the last token of the word, its mean over
      occurrences (if the model predicts tokens, and is no encoder-decoder).

    All are compared on the same pairs: those whose two words could be read.

    Parameters
    ----------
    model : LanguageModel
    pairs : WordPairs or sequence of (str, str, float)
        As :func:`read_word_pairs` gives them; larger scores for more similar words.
    corpus : str or sequence of str, optional
        Texts in which the words occur. Only paragraphs that hold one are read, in a random order, until there are
        ``max_count`` occurrences of each word.
    template : str, optional
        Without a corpus: a text with ``{}`` in the place of the word, such as ``"This is a {}."``.
    layers : sequence of int, optional
        All by default, the embedding (0) among them.
    directions : int or sequence of int
        Number of linear discriminants in which full normals are taken, as in ``infogeo.word_types.full_normals``; with
        several numbers there is a measure for each.
    shrinkage : float
        From 0 to 1, how far the covariance of a word is drawn toward that of all words, in full and diagonal normals.
    min_count, max_count : int
        Fewest occurrences of a word in the corpus, at least 2, and most that are read.
    max_tokens : int
        Most tokens of the piece of a paragraph that an occurrence is read in.
    ignore_case : bool
        Whether ``Tiger`` in the corpus is an occurrence of ``tiger``.
    background : Background, optional
        Of the same model and pooling, by default :func:`capture_background` of the packaged text.
    pooling : {"mean", "first", "last"}
        How the tokens of a word are turned into its vector.
    batch_tokens : int
        Most tokens in one batch.
    level, resamples, rng
        As in :func:`~infogeo.compare_similarities`; ``rng`` orders the paragraphs as well.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of texts.

    Returns
    -------
    SimilarityComparison
        ``missing`` names the words that could not be read (no token, or too few occurrences), ``left_out`` the pairs
        they were in, ``undefined`` what could not be measured, each with the reason.

    Raises
    ------
    ArgumentError
        If an argument has no such value.
    DomainError
        If fewer than 8 pairs are left, or no word could be read.
    TextError
        If a text of the corpus is no text.

    Examples
    --------
    >>> from infogeo_adapters import capture_background, load_model
    >>> model = load_model()
    >>> background = capture_background(model, "The sun rose over the hill. The birds began to sing in the wood.")
    >>> pairs = [("dog", "cat", 9.0), ("dog", "house", 2.0), ("king", "queen", 9.0), ("king", "apple", 1.0),
    ...          ("sun", "moon", 7.0), ("sun", "spoon", 1.0), ("boy", "girl", 9.0), ("boy", "river", 1.0)]
    >>> found = compare_with_similarity(model, pairs, layers=[2, 4], background=background, resamples=100)
    >>> [e.measure for e in found.estimates][:3], found.variants
    (['cosine', 'cosine, centered', 'Euclidean'], ('layer 2', 'layer 4'))
    """
    check_model(model)
    given = _word_pairs(pairs)
    texts = _corpus(corpus, template)
    chosen = _layers(model, layers)
    check_progress(progress)
    numbers = _directions(directions)
    predicts = model.has_head and model.kind != "encoder-decoder"  # an encoder reads, and predicts nothing
    how = Reading(chosen, pooling, predicts, check_count("batch_tokens", batch_tokens, 1), progress)
    for_corpus, for_halves = random_generator(rng).spawn(2)
    if texts is None:
        found = read_alone(model, given.words(), template, how)
    else:
        least = check_count("min_count", min_count, 2)
        found = read_in_corpus(
            model, given.words(), texts, how, min_count=least, max_count=check_count("max_count", max_count, least),
            max_tokens=check_count("max_tokens", max_tokens, 1), ignore_case=check_flag("ignore_case", ignore_case),
            rng=for_corpus,
        )
    kept, sides, left_out = _kept(given, found, texts is not None and ignore_case)
    if background is None:
        background = packaged_background(model, pooling=pooling, batch_tokens=batch_tokens)
    check_background(background)
    check_same_model("background", background.source, model.current_source())
    if background.pooling != pooling:
        raise ArgumentError(f"background: found pooling {background.pooling!r}, wanted {pooling!r} as for the words")
    task = _Task(model, found, background, numbers, shrinkage, sides)
    distances, undefined = task.distances()
    compared = compare_similarities(
        kept, distances, variants=[f"layer {layer}" for layer in chosen], reference=COSINE, level=level,
        resamples=resamples, rng=for_halves,
    )
    read = "alone" if template is None else f"in {template!r}"
    source = dataclasses.replace(
        model.current_source(), text_hash=_hash([f"{a}\t{b}\t{s}" for a, b, s in given.rows()[1]] + list(texts or ())),
        seed=int(rng) if isinstance(rng, int | np.integer) else None,
    ).with_options(
        words="in a corpus" if texts is not None else read, texts=found.texts, occurrences=len(found.members),
        pooling=pooling, directions=", ".join(map(str, numbers)), shrinkage=shrinkage, min_count=min_count,
        max_count=max_count, max_tokens=max_tokens, level=level, resamples=resamples,
    )
    return dataclasses.replace(
        compared, left_out=left_out, missing=found.missing, source=source,
        undefined=(*undefined, *(reason for reason in compared.undefined if not _told(reason, undefined))),
    )


@dataclasses.dataclass(frozen=True)
class _Task:
    """The distances of all measures at all layers, for the pairs that are compared."""

    model: LanguageModel
    found: Occurrences
    background: Background
    directions: tuple[int, ...]
    shrinkage: float
    sides: tuple[list[int], list[int]]
    """The first and the second words of the pairs, by their numbers."""

    def distances(self) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
        """(R, P) distances of each measure, NaN in layers where there is none; and what there is none of, and why."""
        several = len(self.found.members) > len(self.found.words)
        ways: dict[str, Callable[[int], tuple[Measure, Family]]] = {
            COSINE: lambda r: (cosine_distance, PointMass(self._means(r))),
            CENTERED: lambda r: (cosine_distance, PointMass(self._means(r) - self.background.mean[self.layers[r]])),
            EUCLIDEAN: lambda r: (euclidean_distance, PointMass(self._means(r))),
            COMPONENTS: lambda r: (fisher_rao_distance, self._components(r)),
            BACKGROUND: lambda r: (fisher_rao_distance, self._around(r)),
            WITHIN: lambda r: (fisher_rao_distance, shared_normals(self._vectors(r), self.found.members)),
            **{FULL.format(k): functools.partial(self._full, k) for k in self.directions},
            DIAGONAL: lambda r: (fisher_rao_distance, diagonal_normals(
                self._vectors(r), self.found.members, shrinkage=self.shrinkage
            )),
            READ_OUT: lambda r: (fisher_rao_distance, self._read_out(r)),
        }
        wanted = () if several else (WITHIN, *(FULL.format(k) for k in self.directions), DIAGONAL)
        none = {name: f"{name}: wants a corpus, where words occur several times" for name in wanted}
        words, dimension = len(self.found.words), self.found.vectors.shape[2]
        for k in self.directions:
            if several and k >= min(words, dimension + 1):
                none[FULL.format(k)] = f"{FULL.format(k)}: found {words} words of {dimension} coordinates, wanted more"
        if self.found.last is None:
            none[READ_OUT] = f"{READ_OUT}: what reads the words in {self.model.name} predicts no tokens"
        undefined = list(none.values())
        layers = self.layers
        tables = {}
        for name, way in ways.items():
            if name in none:
                continue
            table = np.full((len(layers), len(self.sides[0])), np.nan)
            for r, layer in enumerate(layers):
                try:
                    measure, batch = way(r)
                    table[r] = self._between(measure, batch)
                except (DomainError, ConvergenceError) as error:
                    undefined.append(f"{name}, layer {layer}: {error}")
            tables[name] = table
        return tables, tuple(undefined)

    def _between(self, measure: Measure, words: Family) -> FloatArray:
        """(P,) distances of the two words of each pair, as many pairs at once as the memory holds."""
        first, second = self.sides
        step = max(1, int(MEMORY // (64 * words.member_size)))  # about eight arrays of the size of the pairs
        blocks = [slice(start, start + step) for start in range(0, len(first), step)]
        return np.concatenate([np.asarray(measure(words[first[b]], words[second[b]])) for b in blocks])

    @property
    def layers(self) -> tuple[int, ...]:
        return self.found.layers

    def _vectors(self, r: int) -> FloatArray:
        return np.asarray(self.found.vectors[r], dtype=np.float64)

    def _means(self, r: int) -> FloatArray:
        return means_of_words(self._vectors(r), self.found.members)

    def _full(self, k: int, r: int) -> tuple[Measure, Family]:
        batch = full_normals(self._vectors(r), self.found.members, directions=k, shrinkage=self.shrinkage)
        return fisher_rao_distance, batch

    def _components(self, r: int) -> DiagonalGaussian:
        means = self._means(r)
        return DiagonalGaussian(means.mean(axis=1, keepdims=True), means.var(axis=1, keepdims=True))

    def _around(self, r: int) -> SharedCovarianceGaussian:
        covariance, _ = self.background.shrunk_covariance(self.layers[r], shrinkage=ledoit_wolf)
        return SharedCovarianceGaussian(self._means(r), covariance)

    def _read_out(self, r: int) -> Categorical:
        """The mean over its occurrences of what is predicted at the last token of each word."""
        states = self.found.last
        if states is None:
            raise DomainError(f"{self.model.name} predicts no tokens")
        sums = np.zeros((0, 0))
        for where, logits in find_readout(self.model).chunks(states[r]):
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            if not sums.size:
                sums = np.zeros((len(self.found.words), logits.shape[1]))
            np.add.at(sums, self.found.members[where], shifted / shifted.sum(axis=1, keepdims=True))
        return Categorical.from_counts(sums)


def _word_pairs(pairs: WordPairs | Sequence[tuple[str, str, float]]) -> WordPairs:
    if isinstance(pairs, WordPairs):
        return pairs
    try:
        first, second, scores = zip(*pairs, strict=True)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "pairs: wanted WordPairs, such as read_word_pairs gives, or a list of (word, word, score)"
        ) from error
    return WordPairs(first=first, second=second, scores=np.array(scores), source=Source())


def _corpus(corpus: str | Sequence[str] | None, template: str | None) -> Sequence[str] | None:
    if corpus is None:
        return None
    if template is not None:
        raise ArgumentError("template: found one beside a corpus; words are read in the one or in the other")
    texts = [corpus] if isinstance(corpus, str) else corpus
    if not isinstance(texts, Sequence) or not len(texts):
        raise ArgumentError(f"corpus: found {type(corpus).__name__}, wanted a text or a list of at least one")
    return [check_text(text) for text in texts]


def _layers(model: LanguageModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    depth = find_stack(model.model).depth
    if layers is None:
        return tuple(range(depth + 1))
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not len(layers):
        raise ArgumentError(f"layers: found {layers!r}, wanted a list of layers, or None for all")
    chosen = [resolve_layer(layer, depth, "model") for layer in layers]
    return tuple(dict.fromkeys(chosen))


def _directions(directions: int | Sequence[int]) -> tuple[int, ...]:
    given = directions if isinstance(directions, Sequence) and not isinstance(directions, str) else [directions]
    if not len(given):
        raise ArgumentError("directions: found none, wanted a number, or a list of numbers")
    return tuple(dict.fromkeys(check_count("directions", k, 1) for k in given))


def _kept(
    pairs: WordPairs, found: Occurrences, ignore_case: bool
) -> tuple[WordPairs, tuple[list[int], list[int]], tuple[tuple[str, str, str], ...]]:
    """The pairs both of whose words were read, the numbers of their words, and the other pairs with the reason."""
    number = index_of_words(found, ignore_case)
    keys = [[word.lower() if ignore_case else word for word in side] for side in (pairs.first, pairs.second)]
    keys = [[" ".join(key.split()) for key in side] for side in keys]
    kept = [k for k in range(len(pairs)) if keys[0][k] in number and keys[1][k] in number]
    left_out = []
    for k in sorted(set(range(len(pairs))) - set(kept)):
        words = [w for w, side in ((pairs.first[k], 0), (pairs.second[k], 1)) if keys[side][k] not in number]
        reasons = dict.fromkeys(f"{word!r} {found.missing[word]}" for word in words)
        left_out.append((pairs.first[k], pairs.second[k], "; ".join(reasons)))
    if not kept:
        raise DomainError(f"pairs: of no pair both words could be read ({left_out[0][2]}); give more text")
    chosen = WordPairs(
        first=tuple(pairs.first[k] for k in kept), second=tuple(pairs.second[k] for k in kept),
        scores=pairs.scores[kept], source=pairs.source,
    )
    sides = tuple([number[side[k]] for k in kept] for side in keys)
    return chosen, (sides[0], sides[1]), tuple(left_out)


def _told(reason: str, undefined: Sequence[str]) -> bool:
    """Whether a variant without distances is there already, with the reason for it."""
    return any(known.startswith(reason.split(": ")[0] + ":") for known in undefined)


def _hash(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)} ".encode() + text.encode("utf-8"))
    return digest.hexdigest()
