r"""The information bottleneck: what a compressed description of X keeps of Y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_count, check_number, random_generator, sum_tolerance
from infogeo._units import Unit, per_nat
from infogeo.capacity._covariance import not_negative
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.results import Result

LEAST = 1e-300
"""Stands for zero in a logarithm whose value is multiplied by zero."""

LONGEST = 64.0
"""Longest extrapolation, in plain steps."""

SLACK = 1e-14
"""Rise of the Lagrangian, relative to the sum of its terms, that is rounding."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationBottleneck(Result):
    """An encoder of X at which the bottleneck Lagrangian is stationary.

    The problem is not convex. ``residual`` certifies a stationary point, not the least value, unless ``optimal``.
    """

    compression: float
    """I(X; T), in ``unit``."""
    relevance: float
    """I(T; Y); at most I(X; T) and at most I(X; Y), as data processing demands."""
    lagrangian: float
    """I(X; T) - beta I(T; Y)."""
    joint_information: float
    """I(X; Y), the most that T can tell of Y."""
    beta: float
    encoder: FloatArray
    """(n, k) probabilities of the clusters given x; rows sum to one."""
    decoder: FloatArray
    """(k, m) probabilities of y given the cluster."""
    cluster_probs: FloatArray
    """(k,)"""
    residual: float
    """Largest total variation between a row of the encoder and what one more step makes of it; zero at a stationary
    point."""
    lagrangians: FloatArray
    """(restarts,) values that the starts came to; a spread shows that there are several stationary points."""
    optimal: bool
    """Whether the value is known to be the least there is: only for beta at most one, where T tells nothing."""
    iterations: int
    """Steps of the start that is returned."""
    converged: bool
    """Whether ``residual`` is at most ``tol``."""
    tol: float
    unit: Unit

    @property
    def clusters_used(self) -> int:
        """Clusters of a probability above 1e-9."""
        return int((self.cluster_probs > 1e-9).sum())

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("beta", "compression", "relevance", "lagrangian", "unit", "clusters_used", "residual", "converged")
        return columns, [tuple(getattr(self, name) for name in columns)]

    def summary(self) -> str:
        return (
            f"I(X; T) = {self.compression:.4g}, I(T; Y) = {self.relevance:.4g} of {self.joint_information:.4g} "
            f"{self.unit} at beta = {self.beta:g}{'' if self.converged else ', not converged'}"
        )


class _Joint(NamedTuple):
    px: FloatArray
    """(n,) positive."""
    conditional: FloatArray
    """(n, m) p(y | x)"""
    negative_entropy: FloatArray
    """(n,) of the rows."""
    py: FloatArray
    beta: float


def information_bottleneck(
    joint: ArrayLike,
    beta: float,
    *,
    n_clusters: SupportsIndex | None = None,
    restarts: SupportsIndex = 10,
    rng: Any = None,
    tol: float = 1e-8,
    max_iter: SupportsIndex = 10_000,
    strict: bool = True,
    unit: Unit = "nats",
) -> InformationBottleneck:
    r"""Information bottleneck of a joint distribution: the encoder that keeps of X what tells of Y.

    .. math:: \min_{p(t|x)} I(X; T) - \beta\, I(T; Y), \qquad T - X - Y

    by iterating the equations that hold at a stationary point [1]_

    .. math:: p(t|x) \propto p(t)\, e^{-\beta D(p(y|x) \Vert p(y|t))}, \qquad p(t) = \sum_x p(x) p(t|x), \qquad
              p(y|t) = \frac{1}{p(t)} \sum_x p(y|x)\, p(t|x)\, p(x)

    extrapolated where that lowers the Lagrangian further [2]_, since plain iterations crawl near the values of beta at
    which a cluster splits. Each step lowers the Lagrangian, but it is **not convex**: what comes back is the best of
    several starts, certified as stationary, not as the least. One start tells every x apart (with fewer clusters than
    x, every other start assigns the x to k of them); the others are random. For beta of at most one, no T is better
    than one that tells nothing, by data processing.

    Parameters
    ----------
    joint : array, shape (n, m)
        P(x, y), not negative; rows are X, what is compressed. Rows of probability zero are allowed. The sum is one
        within 1e-9, or the rounding of a coarser dtype; what is left of it is divided out.
    beta : float
        Worth of a nat about Y in nats about X; finite, not negative.
    n_clusters : int, optional
        Values that T may take; n unless given, which is always enough.
    restarts : int
        Starts.
    rng : None, int or numpy.random.Generator
        For the random ones.
    tol : float
        Largest total variation by which one more step may change a row of the encoder.
    max_iter : int
        Most steps of a start.
    strict : bool
        Raise if the best start is not stationary within ``tol``; otherwise return it, which says so.
    unit : {"nats", "bits"}
        Of all informations.

    Returns
    -------
    InformationBottleneck

    Raises
    ------
    ConvergenceError
        If the best start is not stationary within ``tol``; its ``result`` is what was reached.
    DomainError
        If a probability is negative or not finite, or they do not sum to one.
    ShapeError
        If ``joint`` is not a matrix.
    ArgumentError
        If another argument is out of range.

    References
    ----------
    .. [1] N. Tishby, F. C. Pereira, W. Bialek, The information bottleneck method, 37th Allerton Conference on
       Communication, Control and Computing 1999, theorem 5.
    .. [2] R. Varadhan, C. Roland, Simple and globally convergent methods for accelerating the convergence of any EM
       algorithm, Scandinavian Journal of Statistics 35 (2008) 335-353.

    Examples
    --------
    A fair bit seen through a symmetric channel. Below beta = 1 / (1 - 2 * 0.1) ** 2 nothing is worth keeping.

    >>> joint = [[0.45, 0.05], [0.05, 0.45]]
    >>> [round(information_bottleneck(joint, beta, rng=0).relevance, 4) for beta in (1.5, 2.0, 1000.0)]
    [0.0, 0.2823, 0.3681]
    """
    factor = per_nat(unit)
    array = _read(joint)
    beta = check_number("beta", beta)
    if not 0 <= beta < np.inf:
        raise ArgumentError(f"beta: found {beta}, wanted a finite number of at least 0")
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a positive number")
    starts, steps = check_count("restarts", restarts, 1), check_count("max_iter", max_iter, 1)
    k = len(array) if n_clusters is None else check_count("n_clusters", n_clusters, 1)
    generator = random_generator(rng)
    everywhere = array.sum(axis=1)
    some = everywhere > 0
    px = everywhere[some]
    conditional = array[some] / px[:, None]
    known = _Joint(px, conditional, _plogp(conditional).sum(axis=1), array.sum(axis=0), beta)
    if beta <= 1:
        best = np.zeros((len(px), k))
        best[:, 0] = 1.0
        count, values, residual = 0, np.zeros(starts), 0.0
    else:
        found = [_iterate(known, start, tol, steps) for start in _starts(known, k, starts, generator)]
        values = np.array([value for _, value, _, _ in found])
        best, _, residual, count = found[_choose(values, [r for _, _, r, _ in found], tol)]
    encoder = np.zeros((len(array), k))
    encoder[:, 0] = 1.0
    encoder[some] = best
    probs = px @ best
    compression, relevance = _informations(known, best)
    decoder = _decoder(known, best, probs)
    result = InformationBottleneck(
        compression=factor * compression, relevance=factor * relevance,
        lagrangian=factor * (compression - beta * relevance),
        joint_information=factor * max(float(px @ known.negative_entropy) - float(_plogp(known.py).sum()), 0.0),
        beta=beta, encoder=encoder, decoder=decoder, cluster_probs=probs, residual=residual,
        lagrangians=factor * values, optimal=beta <= 1, iterations=count, converged=residual <= tol, tol=tol, unit=unit,
    )
    if strict and not result.converged:
        raise ConvergenceError(
            f"information_bottleneck: a step still changes a row of the encoder by {residual:.3g} after {count} steps, "
            f"wanted {tol:.3g}; raise max_iter or tol, or take what was reached with strict=False",
            result,
        )
    return result


def _read(joint: ArrayLike) -> FloatArray:
    array = as_float_array("joint", joint)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"joint: found shape {array.shape}, wanted a matrix (n, m) of probabilities P(x, y)")
    not_negative("joint", array, "a probability")
    total = float(array.sum())
    tolerance = sum_tolerance(np.asarray(joint).dtype)
    if not abs(total - 1) <= tolerance:
        rows = array.sum(axis=1)
        hint = "divide counts by their sum"
        if (abs(rows - 1) <= tolerance).all():
            hint = "its rows sum to one each: multiply the channel p(y | x) by the probabilities of x"
        raise DomainError(f"joint: all probabilities sum to {total:.12g}, wanted 1 within {tolerance:.2g}; {hint}")
    return np.asarray(array / total)


def _plogp(p: FloatArray) -> FloatArray:
    return np.asarray(p * np.log(np.maximum(p, LEAST)))


def _starts(known: _Joint, k: int, count: int, rng: np.random.Generator) -> list[FloatArray]:
    """Every x apart, or assigned to drawn ones if there are too few clusters; in turn with random encoders."""
    n = len(known.px)
    sharp = [np.eye(n, k)] if k >= n else [_assigned(known, k, rng) for _ in range((count + 1) // 2)]
    # a little of everything, so that clusters can move: a step never revives a cluster of probability zero
    apart = [0.99 * start + 0.01 / k for start in sharp]
    return [*apart, *(rng.dirichlet(np.ones(k), size=n) for _ in range(count - len(apart)))]


def _assigned(known: _Joint, k: int, rng: np.random.Generator) -> FloatArray:
    """Every x to the nearest of k of them that are drawn far from each other."""
    n = len(known.px)
    centers = [int(rng.choice(n, p=known.px / known.px.sum()))]
    for _ in range(k - 1):
        weights = known.px * np.minimum(_divergences(known, known.conditional[centers]).min(axis=1), 1e3)
        total = weights.sum()
        centers.append(int(rng.choice(n, p=weights / total if total > 0 else known.px / known.px.sum())))
    return np.asarray(np.eye(k)[_divergences(known, known.conditional[centers]).argmin(axis=1)])


def _divergences(known: _Joint, decoder: FloatArray) -> FloatArray:
    """(n, k) Kullback-Leibler divergences of the rows p(y | x) from those of the decoder; large where infinite."""
    return np.asarray(np.maximum(known.negative_entropy[:, None] - known.conditional @ np.log(
        np.maximum(decoder, LEAST)).T, 0.0))


def _decoder(known: _Joint, encoder: FloatArray, probs: FloatArray) -> FloatArray:
    """(k, m) p(y | t); the law of y for a cluster that is never used."""
    weights = (known.px[:, None] * encoder).T @ known.conditional
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > LEAST, weights / np.maximum(total, LEAST), known.py)


def _informations(known: _Joint, encoder: FloatArray) -> tuple[float, float]:
    """I(X; T) and I(T; Y), by sums of terms that are not negative."""
    probs = known.px @ encoder
    compression = float(known.px @ (encoder * _log_ratio(encoder, probs)).sum(axis=1))
    decoder = _decoder(known, encoder, probs)
    relevance = float(probs @ (decoder * _log_ratio(decoder, known.py)).sum(axis=1))
    return max(compression, 0.0), max(relevance, 0.0)


def _log_ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(a, LEAST)) - np.log(np.maximum(b, LEAST)))


def _step(known: _Joint, encoder: FloatArray) -> FloatArray:
    """One round of the three equations."""
    probs = known.px @ encoder
    logits = np.log(np.maximum(probs, LEAST)) - known.beta * _divergences(known, _decoder(known, encoder, probs))
    return _softmax(logits)


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _value(known: _Joint, encoder: FloatArray) -> tuple[float, float]:
    compression, relevance = _informations(known, encoder)
    return compression - known.beta * relevance, compression + known.beta * relevance


def _iterate(known: _Joint, encoder: FloatArray, tol: float, max_iter: int) -> tuple[FloatArray, float, float, int]:
    """Stationary encoder, its Lagrangian, its residual and the steps taken."""
    encoder = _step(known, encoder)
    residual, count = np.inf, 1
    while count < max_iter:
        one = _step(known, encoder)
        count += 1
        residual = float(np.abs(one - encoder).sum(axis=1).max()) / 2
        if residual <= tol:
            break
        two = _step(known, one)
        count += 1
        first, curve = one - encoder, two - 2 * one + encoder
        bend = float(np.sqrt((curve**2).sum()))
        length = float(np.sqrt((first**2).sum())) / bend if bend > 0 else 1.0
        plain, size = _value(known, two)
        encoder = two
        if length > 1:
            length = min(length, LONGEST)
            ahead = np.maximum(two + (length - 1) * (two - one), 0.0)
            ahead = _step(known, ahead / ahead.sum(axis=1, keepdims=True))
            count += 1
            if _value(known, ahead)[0] <= plain + SLACK * size:
                encoder = ahead
    residual = float(np.abs(_step(known, encoder) - encoder).sum(axis=1).max()) / 2
    return encoder, _value(known, encoder)[0], residual, count


def _choose(values: FloatArray, residuals: list[float], tol: float) -> int:
    """The start of the least Lagrangian; among those that tie, one that is stationary."""
    low = values.min()
    close = np.flatnonzero(values <= low + 1e-10 * max(1.0, abs(low)))
    stationary = [int(i) for i in close if residuals[i] <= tol]
    return stationary[0] if stationary else int(values.argmin())
