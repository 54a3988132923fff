"""Mean and covariance of a model's word vectors, estimated from a background text, and how to shrink it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Protocol, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_count, check_number, check_shape, sealed
from infogeo.activations import LayerActivations, Pooling, each_text, resolve_layer
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source


class ShrinkageRule(Protocol):
    """A function that says how far to shrink a covariance, from 0 (not at all) to 1 (to the target alone)."""

    def __call__(self, covariance: FloatArray, *, n: int, fourth_moment: float) -> float:
        """Intensity for a covariance (d, d) of n vectors, given the mean of their centered lengths to the fourth."""
        ...


def ledoit_wolf(covariance: FloatArray, *, n: int, fourth_moment: float) -> float:
    r"""Intensity of Ledoit and Wolf for shrinking toward a multiple of the identity.

    :math:`\min(\beta^2, \delta^2)/\delta^2` with :math:`\delta^2 = \|S - \mu I\|_F^2`, :math:`\mu = \mathrm{tr} S / d`
    and :math:`\beta^2 = (\overline{|x|^4} - \|S\|_F^2) / n`, the estimated squared error of S [1]_. It assumes
    independent vectors; words of one text are not independent, so it shrinks too little rather than too much.

    Parameters
    ----------
    covariance : array, shape (d, d)
        Empirical covariance with divisor n.
    n : int
        Number of vectors.
    fourth_moment : float
        Mean of :math:`|x - \bar x|^4` over the vectors.

    Returns
    -------
    float, from 0 to 1

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of
       Multivariate Analysis 88 (2004) 365-411.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    >>> round(ledoit_wolf(x.T @ x / 4, n=4, fourth_moment=float(((x**2).sum(1) ** 2).mean())), 6)
    0.640625
    """
    covariance, n, fourth_moment = _statistics(covariance, n, fourth_moment)
    d = len(covariance)
    square = float((covariance**2).sum())
    distance = square - float(np.trace(covariance)) ** 2 / d
    error = (fourth_moment - square) / n
    return float(np.clip(error / distance, 0.0, 1.0)) if distance > 0 else 0.0


def oracle_approximating(covariance: FloatArray, *, n: int, fourth_moment: float = float("nan")) -> float:
    r"""Oracle-approximating intensity for shrinking toward a multiple of the identity, made for normal vectors.

    :math:`\min\{1, [(1 - 2/d)\,\mathrm{tr} S^2 + \mathrm{tr}^2 S] / [(n + 1 - 2/d)(\mathrm{tr} S^2 -
    \mathrm{tr}^2 S / d)]\}` [1]_.

    Parameters
    ----------
    covariance : array, shape (d, d)
        Empirical covariance with divisor n.
    n : int
        Number of vectors.
    fourth_moment : float
        Not used; taken so that all rules are called alike.

    Returns
    -------
    float, from 0 to 1

    References
    ----------
    .. [1] Y. Chen, A. Wiesel, Y. C. Eldar, A. O. Hero, Shrinkage algorithms for MMSE covariance estimation, IEEE
       Transactions on Signal Processing 58 (2010) 5016-5029.

    Examples
    --------
    >>> round(oracle_approximating(np.diag([1.0, 3.0]), n=10), 6)
    0.8
    """
    covariance, n, _ = _statistics(covariance, n, 0.0)
    d = len(covariance)
    square, trace2 = float((covariance**2).sum()), float(np.trace(covariance)) ** 2
    excess = (n + 1 - 2 / d) * (square - trace2 / d)
    return min(1.0, ((1 - 2 / d) * square + trace2) / excess) if excess > 0 else 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Background(Result):
    """Mean and covariance of word vectors at every layer of one model, from a background text."""

    mean: FloatArray
    """(L + 1, d)"""
    covariance: FloatArray
    """(L + 1, d, d) with divisor n_words, not shrunk."""
    fourth_moment: FloatArray
    """(L + 1,) mean over the words of the length of the centered vector to the fourth power, for Ledoit-Wolf."""
    n_words: int
    pooling: Pooling = "mean"
    """How the tokens of a word were turned into its vector."""
    source: Source

    def __post_init__(self) -> None:
        mean, covariance = as_float_array("mean", self.mean), as_float_array("covariance", self.covariance)
        fourth_moment = as_float_array("fourth_moment", self.fourth_moment)
        check_shape("mean", mean, (None, None))
        check_shape("covariance", covariance, (len(mean), mean.shape[1], mean.shape[1]))
        check_shape("fourth_moment", fourth_moment, (len(mean),))
        if self.n_words < 2:
            raise DomainError(f"n_words: found {self.n_words}, wanted at least 2; one word has no covariance")
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "covariance", sealed(covariance))
        object.__setattr__(self, "fourth_moment", sealed(fourth_moment))

    @property
    def n_layers(self) -> int:
        """Number of blocks L; there is one layer more."""
        return len(self.mean) - 1

    @property
    def dimension(self) -> int:
        """Width d of the vectors."""
        return int(self.mean.shape[1])

    def shrunk_covariance(
        self, layer: int, *, shrinkage: float | ShrinkageRule = ledoit_wolf
    ) -> tuple[FloatArray, float]:
        r"""Covariance at a layer, shrunk: :math:`(1 - \lambda) S + \lambda\, (\mathrm{tr} S / d)\, I`.

        Parameters
        ----------
        layer : int
            0 is the embedding, negative numbers count from the last.
        shrinkage : float or function
            The intensity from 0 to 1, or a rule that computes it, such as :func:`ledoit_wolf`.

        Returns
        -------
        covariance : array, shape (d, d)
        intensity : float

        Raises
        ------
        ArgumentError
            If the layer does not exist, or the shrinkage is neither a number nor a function.
        DomainError
            If the intensity lies outside 0 to 1, the covariance is zero, or it is singular because it comes from
            fewer words than it has dimensions and is not shrunk.
        """
        layer = resolve_layer(layer, self.n_layers, "background")
        covariance = self.covariance[layer]
        intensity = intensity_of(
            shrinkage, covariance, n=self.n_words, fourth_moment=float(self.fourth_moment[layer])
        )
        if intensity == 0.0 and self.n_words <= self.dimension:
            raise DomainError(
                f"covariance: {self.n_words} background words do not determine a covariance in {self.dimension} "
                "dimensions without shrinkage; use a longer background text, or shrinkage=ledoit_wolf"
            )
        variance = float(np.trace(covariance)) / self.dimension
        if variance <= 0:
            raise DomainError(
                f"covariance: all background words have the same vector at layer {layer}; use another text"
            )
        return (1 - intensity) * covariance + intensity * variance * np.eye(self.dimension), intensity

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        variance = np.trace(self.covariance, axis1=1, axis2=2) / self.dimension
        norm = np.linalg.norm(self.mean, axis=1)
        table = zip(range(len(norm)), norm.tolist(), variance.tolist(), strict=True)
        return ("layer", "norm_of_mean", "mean_variance"), list(table)

    def summary(self) -> str:
        size = f"{self.n_layers} blocks of width {self.dimension}"
        return f"Background of {self.n_words} words: {size} ({self.source.model})"


def estimate_background(
    activations: Iterable[LayerActivations] | LayerActivations, *, pooling: Pooling = "mean"
) -> Background:
    """Mean and covariance of word vectors at every layer, from any number of texts of one model.

    The texts are taken one by one and not kept, so an iterator of any length will do: what is held is one text and
    L + 1 matrices d x d. Sums are in float64, of vectors less the mean of the first text. Besides first and second
    moments the fourth power of the lengths is accumulated, which is what Ledoit-Wolf shrinkage needs beyond them.

    Parameters
    ----------
    activations : iterable of LayerActivations
        All of one model; a single text may be given without a list around it.
    pooling : {'mean', 'first', 'last'}
        How the tokens of a word are turned into its vector.

    Returns
    -------
    Background

    Raises
    ------
    ArgumentError
        If something else than activations is given.
    DomainError
        If there are fewer than two words, or the activations come from different models.
    """
    shift: FloatArray | None = None
    first: FloatArray
    sources: list[Source] = []
    n, texts = 0, hashlib.sha256()
    for text in each_text(activations):
        if shift is not None and (text.n_layers + 1, text.dimension) != shift.shape:
            raise ShapeError(
                f"activations: found a text with {text.n_layers} blocks of width {text.dimension} after texts with "
                f"{shift.shape[0] - 1} blocks of width {shift.shape[1]}; a background belongs to one model"
            )
        if not sources:
            sources.append(text.source)
        check_same_model("activations", sources[0], text.source)
        texts.update(text.text.encode("utf-8", "surrogatepass") + b"\x00")
        if not text.words:
            continue
        weights = text.pooling_matrix(pooling)
        vectors = weights @ text.hidden_states.astype(np.float64)
        if shift is None:
            shift = vectors.mean(axis=1)
            first, third = np.zeros_like(shift), np.zeros_like(shift)
            second, fourth = np.zeros((*shift.shape, shift.shape[1])), np.zeros(len(shift))
        vectors -= shift[:, None]
        squares = (vectors**2).sum(axis=-1)
        n += len(text.words)
        first += vectors.sum(axis=1)
        second += np.swapaxes(vectors, 1, 2) @ vectors
        third += (squares[..., None] * vectors).sum(axis=1)
        fourth += (squares**2).sum(axis=1)
    if shift is None or n < 2:
        raise DomainError(f"activations: found {n} words, wanted at least 2 to estimate a covariance")
    m, e2, e3, e4 = first / n, second / n, third / n, fourth / n
    c = (m**2).sum(axis=1)
    # E|y - m|^4 with |y - m|^2 = |y|^2 - 2 m.y + |m|^2
    quadratic = np.einsum("li,lij,lj->l", m, e2, m)
    trace = np.trace(e2, axis1=1, axis2=2)
    moment = e4 + 4 * quadratic - 3 * c**2 - 4 * (m * e3).sum(axis=1) + 2 * c * trace
    return Background(
        mean=shift + m,
        covariance=e2 - m[:, :, None] * m[:, None, :],
        fourth_moment=moment,
        n_words=n,
        pooling=pooling,
        source=replace(sources[0], text_hash=texts.hexdigest()),
    )


def check_background(value: Background) -> None:
    """Raise unless the value is a background, saying how to make one."""
    if not isinstance(value, Background):
        raise ArgumentError(
            f"background: found {type(value).__name__}, wanted a Background of the same model; make one with "
            "capture_background(model, text) of infogeo_adapters, or with estimate_background(list of activations)"
        )


def _statistics(covariance: ArrayLike, n: SupportsIndex, fourth_moment: float) -> tuple[FloatArray, int, float]:
    checked = as_float_array("covariance", covariance)
    if checked.ndim != 2 or checked.shape[0] != checked.shape[1] or checked.size == 0:
        raise ShapeError(f"covariance: found shape {checked.shape}, wanted (d, d)")
    if not np.abs(checked).max() < 1e70:  # fourth powers, summed
        raise DomainError(f"covariance: found {np.abs(checked).max():g}, wanted entries below 1e70; change the unit")
    return checked, check_count("n", n, 1), check_number("fourth_moment", fourth_moment)


def check_intensity(value: float, otherwise: str = "") -> float:
    """The value as a float if it is a real number (True is none); the message adds what else there is to pass."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        found = getattr(value, "__name__", None) if callable(value) else None
        wanted = "a number from 0 to 1" + (f", {otherwise}" if otherwise else "")
        raise ArgumentError(f"shrinkage: found {found or repr(value)}, wanted {wanted}")
    return float(value)


def intensity_of(
    shrinkage: float | ShrinkageRule, covariance: FloatArray, *, n: int, fourth_moment: float
) -> float:
    """The intensity itself, or what the rule makes of a covariance; a DomainError unless it is from 0 to 1."""
    if callable(shrinkage):
        intensity = float(shrinkage(covariance, n=n, fourth_moment=fourth_moment))
    else:
        intensity = check_intensity(shrinkage, "or a function such as infogeo.ledoit_wolf (itself, not its name)")
    if not 0.0 <= intensity <= 1.0:
        raise DomainError(f"shrinkage: found intensity {intensity}, wanted a number from 0 to 1")
    return intensity


def check_same_model(name: str, a: Source, b: Source) -> None:
    """Raise if two sources are known to be different models."""
    for what in ("content_hash", "model", "architecture"):
        left, right = getattr(a, what), getattr(b, what)
        if left is not None and right is not None:
            if left != right:
                raise DomainError(f"{name}: found two models, {a.model!r} and {b.model!r}; all must be of one model")
            return


def combined_source(activations: Sequence[LayerActivations]) -> Source:
    """The source of what is computed from several texts of one model."""
    source = activations[0].source
    if len(activations) == 1:
        return source
    for other in activations[1:]:
        check_same_model("activations", source, other.source)
    texts = hashlib.sha256()
    for text in activations:
        texts.update(text.text.encode("utf-8", "surrogatepass") + b"\x00")
    return replace(source, text_hash=texts.hexdigest()).with_options(texts=len(activations))
