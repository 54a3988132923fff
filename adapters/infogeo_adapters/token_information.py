"""Information between the vectors of two tokens, beside attention; of components through a part, through training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count, check_shape, random_generator, sealed
from infogeo._units import Unit, per_nat
from infogeo.capacity.results import ChannelSamples, Part
from infogeo.errors import ArgumentError, DomainError, ShapeError, TextError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._samples import normal_scores
from infogeo.results import Result, Source
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.channels import capture_channels
from infogeo_adapters.transformers.loading import LanguageModel

Side = Literal[
    "block", "attention", "query", "key", "value", "feed_forward", "block input", "attention input",
    "feed_forward input",
]
Dependence = Literal["copula", "gaussian", "ksg"]
UserDependence = Callable[[FloatArray, FloatArray], float]


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenInformation(Result):
    """Mutual information of the vectors of every two tokens of a text, components taken as samples; raw.

    The components of two vectors are no sample of a pair of random variables: the number says how well the value of a
    component in one vector tells that of the same component in the other, as if components were exchangeable. It is not
    what one token tells of another. An outlier component that all tokens share raises all of it.
    """

    values: FloatArray
    """(T, T) row: token of the first side, column: token of the second; NaN for a vector with itself."""
    tokens: tuple[str, ...]
    sides: tuple[str, str]
    """Which vectors, for example ``("query", "key")``."""
    block: int
    """Counted from 1."""
    head: int | None
    """Counted from 1, None if the vectors of all heads stand side by side."""
    vectors: tuple[FloatArray, FloatArray]
    """(T, d) the vectors of the two sides."""
    attention: FloatArray | None
    """(T, T) attention weights of the head, or the mean over heads; special tokens left out, nothing renormalized."""
    causal: bool
    estimator: str
    n: int
    """Components, which are the samples of each estimate."""
    null: float | None
    """What 95 % of pairs stay below if components are shuffled; None without permutations."""
    unit: Unit
    warnings: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        t = len(self.tokens)
        check_shape("values", self.values, (t, t))
        if self.attention is not None:
            check_shape("attention", self.attention, (t, t))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("from_place", "from", "to_place", "to", "information", "attention")
        t = range(len(self.tokens))
        table = [
            (i, self.tokens[i], j, self.tokens[j], float(self.values[i, j]),
             None if self.attention is None else float(self.attention[i, j]))
            for i in t for j in t
        ]
        return columns, table

    def summary(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        return (f"TokenInformation of {len(self.tokens)} tokens: {self.sides[0]} and {self.sides[1]} of block "
                f"{self.block}{head}, {self.estimator}, n = {self.n} components, {self.unit}")


def token_mutual_information(
    model: LanguageModel,
    text: str,
    *,
    block: int,
    sides: tuple[Side, Side] = ("query", "key"),
    head: int | None = None,
    estimator: Dependence | UserDependence = "copula",
    permutations: int = 100,
    rng: Any = None,
    unit: Unit = "nats",
) -> TokenInformation:
    r"""Information between the vectors of each two tokens in a block, with the attention weights beside it.

    Row i, column j: the d components of token i's first vector and token j's second as d pairs of numbers. With two
    normal variables of correlation r it is :math:`-\tfrac12 \log(1 - r^2)`, so that a query opposite to a key has as
    much of it as one along it, whereas attention grows with the signed product [1]_.

    Parameters
    ----------
    model : LanguageModel
    text : str
    block : int
        Counted from 1.
    sides : (str, str)
        Vectors of rows and of columns: ``query``, ``key``, ``value``, ``feed_forward``, ``attention`` or ``block``
        (what these give), or the last three with ``" input"`` (what goes in).
    head : int, optional
        Take only the components of one head (queries, keys and values), counted from 1; where several heads share keys
        and values, those that it reads.
    estimator : {"copula", "gaussian", "ksg"} or callable
        Gaussian copula by default, with bias correction; or a function of two arrays (d,) that returns nats.
    permutations : int
        Shuffles of the components that give ``null``.
    rng : None, int or Generator
    unit : {"nats", "bits"}

    Returns
    -------
    TokenInformation

    Raises
    ------
    ArgumentError
        If a side, block or head does not exist.
    ShapeError
        If the vectors of the two sides differ in length.
    ModelError
        If the part is not found in the model.

    References
    ----------
    .. [1] M. Deb, T. Ogunfunmi, "Information-theoretical analysis of a transformer-based generative AI model",
       Entropy 27, 589, 2025.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = token_mutual_information(load_model(), "The dog ran home.", block=2, rng=0)
    >>> found.values.shape, found.n, found.attention.shape
    ((5, 5), 160, (5, 5))
    """
    scale = per_nat(unit)
    generator = random_generator(rng)
    check_count("permutations", permutations, 0)
    parts = [_part_of(side) for side in _two(sides)]
    acts = capture_activations(model, text)
    captured = {s.part: s for s in capture_channels(model, [text], parts=list(dict.fromkeys(parts)), blocks=[block])}
    a, b = (_vectors(captured[part], side, head, acts.n_heads) for part, side in zip(parts, sides, strict=True))
    if a.shape != b.shape:
        raise ShapeError(f"sides: {sides[0]} has {a.shape[1]} components and {sides[1]} {b.shape[1]}; the components "
                         "of two vectors can be paired only if there are as many (give head= where heads share keys)")
    values, said, described, null = _map(a, b, estimator, permutations, generator, itself=sides[0] == sides[1])
    for message in said:
        warnings.warn(message, EstimateWarning, stacklevel=2)
    ordinary = np.flatnonzero(~acts.special)
    attention = None
    if acts.attention is not None and block in acts.attention_layers:
        maps = acts.attention[acts.attention_layers.index(block)].astype(np.float64)
        attention = (maps.mean(axis=0) if head is None else maps[head - 1])[np.ix_(ordinary, ordinary)]
    return TokenInformation(
        values=sealed(scale * values), tokens=tuple(acts.tokens[i] for i in ordinary), sides=sides, block=block,
        head=head, vectors=(sealed(a), sealed(b)), attention=attention, causal=acts.causal,
        estimator=described, n=a.shape[1],
        null=None if null is None else scale * null, unit=unit, warnings=said, source=acts.source,
    )


def _two(sides: Any) -> tuple[str, str]:
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise ArgumentError(f"sides: found {sides!r}, wanted two, such as ('query', 'key')")
    return sides[0], sides[1]


def _part_of(side: str, argument: str = "sides") -> Part:
    known: tuple[Part, ...] = ("block", "attention", "query", "key", "value", "feed_forward")
    part = side.removesuffix(" input") if isinstance(side, str) else side
    found = next((p for p in known if p == part), None)
    if found is None or (side != part and (argument == "part" or part in ("query", "key", "value"))):
        more = ", or 'block input', 'attention input', 'feed_forward input'" if argument == "sides" else ""
        raise ArgumentError(f"{argument}: found {side!r}, wanted one of {', '.join(known)}{more}")
    return found


def _vectors(samples: ChannelSamples, side: str, head: int | None, n_heads: int) -> FloatArray:
    found = (samples.x if side.endswith(" input") else samples.y).astype(np.float64)
    if head is None:
        return found
    if samples.heads is None:
        raise ArgumentError(f"head: {side} has no heads; leave head out, or take query, key or value")
    number = check_count("head", head, 1)
    if number > n_heads:
        raise ArgumentError(f"head: found {number}, but block {samples.block} has {n_heads} heads")
    width = found.shape[1] // samples.heads
    place = (number - 1) * samples.heads // n_heads
    return np.ascontiguousarray(found[:, place * width : (place + 1) * width])


def _map(
    a: FloatArray, b: FloatArray, estimator: Any, permutations: int, rng: np.random.Generator, *, itself: bool
) -> tuple[FloatArray, tuple[str, ...], str, float | None]:
    """(T, T) information in nats, warnings, description, and the null quantile."""
    d = a.shape[1]
    said: tuple[str, ...] = ()
    if d < 4:
        raise DomainError(f"the vectors have {d} components, wanted at least 4 as samples")
    if estimator in ("copula", "gaussian"):
        first, second = (_standard(m, ranks=estimator == "copula") for m in (a, b))
        values = _normal_information(first @ second.T, d)
        shuffled = [_normal_information(first @ second[:, rng.permutation(d)].T, d) for _ in range(permutations)]
        described = "Gaussian copula" if estimator == "copula" else "Gaussian"
        null = [m[np.isfinite(m)] for m in shuffled]
    else:
        measure, described = _measure(estimator)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always", EstimateWarning)
            values = np.array([[np.nan if itself and i == j else measure(p, q) for j, q in enumerate(b)]
                               for i, p in enumerate(a)])
        said = tuple(dict.fromkeys(str(w.message) for w in record if issubclass(w.category, EstimateWarning)))
        null = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            for _ in range(permutations):
                i, j = rng.integers(len(a)), rng.integers(len(b))
                null.append(np.array([measure(a[i], b[j][rng.permutation(d)])]))
    if itself:
        values[np.diag_indices(len(values))] = np.nan  # of a vector with itself it is infinite
    return values, said, described, float(np.quantile(np.concatenate(null), 0.95)) if permutations else None


def _measure(estimator: Any) -> tuple[UserDependence, str]:
    if callable(estimator):
        return lambda x, y: float(estimator(x, y)), f"function {getattr(estimator, '__name__', 'given')}"
    if estimator != "ksg":
        raise ArgumentError(f"estimator: found {estimator!r}, wanted 'copula', 'gaussian', 'ksg' or a function")
    from infogeo.mutual_information.ksg import ksg_mutual_information

    return lambda x, y: ksg_mutual_information(x, y), "KSG, k = 3"


def _standard(rows: FloatArray, *, ranks: bool) -> FloatArray:
    """Rows (T, d) centered and of length one, after normal scores of their ranks if wanted; zero where constant."""
    if ranks:
        rows = normal_scores(rows.T).T
    centered = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    whole = np.linalg.norm(rows, axis=1, keepdims=True)
    known = length > 1e-12 * whole
    return np.asarray(np.divide(centered, length, out=np.zeros_like(centered), where=known))


def _normal_information(correlation: FloatArray, n: int) -> FloatArray:
    """Information of pairs of normal variables with these sample correlations, bias taken off; infinity for 1 or -1."""
    from infogeo.mutual_information.gaussian import volume_bias

    bias = 2 * volume_bias(n, 1) - volume_bias(n, 2)
    inside = np.maximum((1 - correlation) * (1 + correlation), 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(inside > 4e-16 * n, -0.5 * np.log(inside), np.inf) - bias)


@dataclass(frozen=True, eq=False, kw_only=True)
class DimensionInformation(Result):
    """Information between a component before a part and the same component after it, over the tokens of texts."""

    values: FloatArray
    """(C, d) of each model or checkpoint and component; raw."""
    names: tuple[str, ...]
    """(C) of the models."""
    part: str
    block: int
    estimator: str
    n: int
    """Tokens."""
    unit: Unit
    warnings: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = [(name, c, value) for name, row in zip(self.names, self.values.tolist(), strict=True)
                 for c, value in enumerate(row)]
        return ("model", "component", "information"), table

    def summary(self) -> str:
        return (f"DimensionInformation of {self.values.shape[1]} components through {self.part} of block {self.block}, "
                f"{len(self.names)} models, {self.estimator}, n = {self.n}, {self.unit}")


def dimension_information(
    models: Mapping[str, LanguageModel],
    texts: Sequence[str],
    *,
    block: int,
    part: Part = "feed_forward",
    estimator: Dependence | UserDependence = "copula",
    unit: Unit = "nats",
) -> DimensionInformation:
    """Information of each component of the input of a part with the same component of its output, model by model.

    Tokens are the samples, so unlike :func:`token_mutual_information` this estimates the information of two random
    variables, component c before and after, over tokens drawn from the texts; tokens of one text depend on each
    other. It says nothing of what other components carry: a rotation of the space changes it.

    Parameters
    ----------
    models : mapping of str to LanguageModel
        Checkpoints in order, by name.
    texts : sequence of str
    block : int
        Counted from 1.
    part : str
        A part whose output is as wide as its input: block, attention, feed_forward; query where heads are as wide.
    estimator : {"copula", "gaussian", "ksg"} or callable
    unit : {"nats", "bits"}

    Returns
    -------
    DimensionInformation

    Raises
    ------
    ArgumentError
        If there is no model, or a part, block or estimator does not exist.
    ShapeError
        If input and output differ in width, or the models do.
    DomainError
        If there are fewer than 4 tokens.
    TextError
        If the texts are none, or one string.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = dimension_information({"trained": load_model()}, ["The dog ran home to the old house."], block=1)
    >>> found.values.shape
    (1, 160)
    """
    scale = per_nat(unit)
    if not isinstance(models, Mapping) or not models:
        raise ArgumentError(f"models: found {models!r}, wanted a mapping from names to models")
    _part_of(part, "part")
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise TextError(f"texts: found {type(texts).__name__}, wanted a list of texts")
    if estimator not in ("copula", "gaussian"):
        measure, described = _measure(estimator)
    else:
        measure, described = None, "Gaussian copula" if estimator == "copula" else "Gaussian"
    found: list[FloatArray] = []
    said: dict[str, None] = {}
    for name, model in models.items():
        (samples,) = capture_channels(model, list(texts), parts=[part], blocks=[block])
        x, y = samples.x.astype(np.float64).T, samples.y.astype(np.float64).T
        if x.shape != y.shape or (found and len(x) != len(found[0])):
            raise ShapeError(f"{name}: {part} of block {block} takes {len(x)} components and gives {len(y)}; wanted as "
                             "many, and the same in all models")
        if x.shape[1] < 4:
            raise DomainError(f"texts: found {x.shape[1]} tokens, wanted at least 4 as samples")
        if measure is None:
            correlation = (_standard(x, ranks=estimator == "copula") * _standard(y, ranks=estimator == "copula")).sum(1)
            found.append(_normal_information(correlation, x.shape[1]))
            continue
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always", EstimateWarning)
            found.append(np.array([measure(p, q) for p, q in zip(x, y, strict=True)]))
        said |= dict.fromkeys(str(w.message) for w in record if issubclass(w.category, EstimateWarning))
    for message in said:
        warnings.warn(message, EstimateWarning, stacklevel=2)
    return DimensionInformation(
        values=sealed(scale * np.array(found)), names=tuple(models), part=part, block=block, estimator=described,
        n=x.shape[1], unit=unit, warnings=tuple(said), source=samples.source,
    )
