"""Estimators of the information plane by name, and what their numbers say against themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo import _plane_estimators as kernels
from infogeo._checks import FloatArray, IntArray, check_count, check_number
from infogeo._plane_estimators import LayerEstimator, Measured, Variable
from infogeo.errors import ArgumentError, DomainError

Measure = Callable[[FloatArray, Variable], float]
"""Nats of states (n, d) and a variable."""

MEANING = {
    "kmeans": "information of the number of a state's cluster, not of the state: at most log k, and it moves with k",
    "binned": "information of the cell a state falls into, not of the state: it moves with the size of the cells",
    "ksg": "estimate for continuous vectors; of a state that is a function of the input the true value is infinite, "
           "and the number then grows with the samples",
    "gaussian": "information of normal vectors with the same covariances: what linear prediction can use",
    "copula": "information of normal vectors after each component is made normal by its ranks: monotone dependence",
    "matrix_renyi": "a functional of kernel matrices that shares some properties of information; it moves with the "
                    "kernel width and is at most log n",
    "gaussian_mixture": "information of the state plus normal noise, for an input drawn from the samples at hand: "
                        "finite because of the noise alone, at most log n",
    "user": "what the given function returns",
}
"""What the number of each estimator is, in place of the true one, which is infinite or constant without noise."""


def choose(
    estimator: Any, states: list[FloatArray], numbered: tuple[int, ...], sigmas: list[float | None],
    variables: tuple[Variable, ...], *, clusters: int | None, bins: int, neighbors: int, alpha: float,
    width: float | None, draws: int, corrected: bool, permutations: int, rng: np.random.Generator,
) -> tuple[str, str, float, list[LayerEstimator]]:
    """Name, description, ceiling in nats, and an estimator for each layer."""
    n = len(states[0])
    permutations = check_count("permutations", permutations, 0)
    correction = ", Miller–Madow" if corrected else ", plug-in"
    if callable(estimator):
        shown = getattr(estimator, "__name__", type(estimator).__name__)

        def user(t: FloatArray, v: Variable) -> float:
            found = estimator(t, values_of(v, "a function as estimator"))
            try:
                return float(found)
            except (TypeError, ValueError):
                raise ArgumentError(f"estimator: {shown} returned {found!r}, wanted a number of nats") from None

        return "user", f"function {shown}", np.inf, [partial(kernels.generic, user)] * len(states)
    if estimator == "kmeans":
        k = min(100, max(2, n // 20)) if clusters is None else check_count("clusters", clusters, 2)
        if 2 * k > n:
            raise ArgumentError(f"clusters: found {k} for {n} samples, wanted at most half as many")
        coded = tuple(
            v if v.vectors is None else Variable(v.name, kernels.k_means(v.vectors, k, rng)) for v in variables
        )

        def clustered(t: FloatArray, _: tuple[Variable, ...], blocks: IntArray | None) -> Measured:
            codes = kernels.k_means(t, k, rng)
            return kernels.quantized(codes, coded, blocks, corrected=corrected, permutations=permutations, rng=rng)

        return "kmeans", f"k-means, k = {k}{correction}", float(np.log(k)), [clustered] * len(states)
    if estimator == "binned":
        width_of = check_count("bins", bins, 2)
        coded = tuple(
            v if v.vectors is None else Variable(v.name, kernels.bin_codes(v.vectors, width_of, v.name))
            for v in variables
        )

        def binned(layer: int, t: FloatArray, _: tuple[Variable, ...], blocks: IntArray | None) -> Measured:
            codes = kernels.bin_codes(t, width_of, f"layer {layer}")
            return kernels.quantized(codes, coded, blocks, corrected=corrected, permutations=permutations, rng=rng)

        cells: list[LayerEstimator] = [partial(binned, i) for i in numbered]
        return "binned", f"binned, {width_of} bins{correction}", float(np.log(n)), cells
    if estimator == "gaussian_mixture":
        draws = check_count("draws", draws, 1)
        _check_mixture(variables, sigmas)
        each: list[LayerEstimator] = [
            partial(kernels.gaussian_mixture, sigma=s, draws=draws, permutations=permutations, rng=rng)
            for s in sigmas if s is not None
        ]
        return "gaussian_mixture", f"Gaussian mixture, {draws} draws", float(np.log(n)), each
    if estimator == "matrix_renyi":
        return ("matrix_renyi", f"matrix-based Rényi, alpha = {alpha:g}", float(np.log(n)),
                [partial(kernels.generic, _matrix_renyi(alpha, width))] * len(states))
    if estimator in ("ksg", "gaussian", "copula"):
        measure, described = _continuous(estimator, neighbors)
        each = [partial(kernels.generic, _named(measure, i)) for i in numbered]
        return estimator, described, np.inf, each
    raise ArgumentError(f"estimator: found {estimator!r}, wanted {', '.join(sorted(set(MEANING) - {'user'}))}, "
                        "or a function")


def _check_mixture(variables: tuple[Variable, ...], sigmas: list[float | None]) -> None:
    for v in variables:
        if v.vectors is not None:
            raise ArgumentError(f"{v.name}: gaussian_mixture needs labels, or None for inputs that all differ; found "
                                "vectors (use estimator='ksg' or 'kmeans')")
    if sigmas[0] is None:
        raise ArgumentError("noise: gaussian_mixture needs the standard deviation of the noise, on which the "
                            "information depends; give noise=")


def values_of(v: Variable, what: str) -> NDArray[Any]:
    found = v.codes if v.codes is not None else v.vectors
    if found is None:
        raise ArgumentError(f"{v.name}: {what} needs labels or vectors of the input; found none")
    return found


def _matrix_renyi(alpha: float, width: float | None) -> Measure:
    from infogeo.matrix_entropy import matrix_renyi_entropy

    if width is not None and not 0 < check_number("width", width) < np.inf:
        raise ArgumentError(f"width: found {width}, wanted a positive number, or None for the median distance")

    def measure(t: FloatArray, v: Variable) -> float:
        a, _ = kernels.gram(t, width)
        if v.codes is None and v.vectors is None:
            return float(matrix_renyi_entropy(a, alpha=alpha))  # B is the identity, and so is the joint matrix
        b, _ = kernels.gram(v, None)
        apart = [float(matrix_renyi_entropy(m, alpha=alpha)) for m in (a, b)]
        return sum(apart) - float(matrix_renyi_entropy(a * b, alpha=alpha))

    return measure


def _named(measure: Measure, layer: int) -> Measure:
    """The same, with the layer and the variable called by their names in errors and warnings."""

    def named(t: FloatArray, v: Variable) -> float:
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            try:
                value = measure(t, v)
            except DomainError as error:
                raise DomainError(f"layer {layer}: {_renamed(str(error), v.name)}") from None
        for found in record:
            warnings.warn(_renamed(str(found.message), v.name), found.category, stacklevel=2)
        return value

    return named


def _renamed(text: str, name: str) -> str:
    """What an estimator of x (or labels) and y says, in the words of the plane: y is the layer there."""
    for short, full in (("x: ", f"{name}: "), ("labels: ", f"{name}: "), ("y: ", "the states: ")):
        if text.startswith(short):
            text = full + text.removeprefix(short)
    return text.replace(" of x", f" of {name}").replace(" of y", " of the states")


def _continuous(estimator: str, neighbors: int) -> tuple[Measure, str]:
    if estimator == "ksg":
        from infogeo.mutual_information.ksg import ksg_mutual_information
        from infogeo.mutual_information.mixed import mixed_mutual_information

        k = check_count("neighbors", neighbors, 1)

        def nearest(t: FloatArray, v: Variable) -> float:
            if v.codes is not None:
                return float(mixed_mutual_information(v.codes, t, k=k))
            return float(ksg_mutual_information(values_of(v, "ksg"), t, k=k))

        return nearest, f"KSG, k = {k}"
    if estimator == "gaussian":
        from infogeo.mutual_information.gaussian import gaussian_mutual_information as normal
    else:
        from infogeo.mutual_information.copula import gaussian_copula_mutual_information as normal

    def linear(t: FloatArray, v: Variable) -> float:
        if v.codes is not None:
            raise ArgumentError(f"{v.name}: estimator={estimator!r} needs vectors (n, p), found labels; "
                                "use 'ksg' or 'kmeans'")
        return float(normal(values_of(v, estimator), t))

    return linear, "Gaussian" if estimator == "gaussian" else "Gaussian copula"


def cautions(
    name: str, measured: list[Measured], variables: tuple[Variable, ...], numbered: tuple[int, ...], ceiling: float,
    n: int,
) -> tuple[str, ...]:
    """What the numbers themselves say against trusting them."""
    said = []
    crowded = [i for i, m in zip(numbered, measured, strict=True)
               if m.details.get("samples_told_apart", 0.0) > 0.97 * ceiling]
    if crowded:
        said.append(
            f"the noise hardly confuses any two samples at layers {', '.join(map(str, crowded))}: the information is "
            f"that of a list of {n} samples, whatever the layer; use more noise"
        )
    for message in dict.fromkeys(text for m in measured for text in m.details.get("said", ())):
        where = [i for i, m in zip(numbered, measured, strict=True) if message in m.details["said"]]
        said.append(f"layers {', '.join(map(str, where))}: {message}")
    for which, v in enumerate(variables):
        values = np.array([m.values[which] for m in measured])
        most = np.log(n) if v.codes is None else kernels.label_entropy(v.codes)
        full = [i for i, value in zip(numbered, values, strict=True) if name == "kmeans" and value > 0.97 * ceiling]
        if full and v.codes is not None and ceiling < most - 1e-9:
            said.append(
                f"{v.name}: the information is at its ceiling, log k = {ceiling:.3g} nats, at layers "
                f"{', '.join(map(str, full))}: it says how many clusters there are; use more"
            )
        nulls = [m.details.get("null", ())[which] for m in measured if m.details.get("null")]
        high = [i for i, null, value in zip(numbered, nulls, values, strict=False)
                if null is not None and abs(null) > 0.25 * abs(value)]
        if high:
            said.append(
                f"{v.name}: shuffled labels give more than a quarter of the information at layers "
                f"{', '.join(map(str, high))}: there are too few samples ({n}) for so many labels and clusters; join "
                "or leave out rare labels, or use fewer clusters"
            )
    return tuple(said)
