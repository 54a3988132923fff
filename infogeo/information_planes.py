"""The information plane: what each layer tells of the input, and what it tells of the target."""

from __future__ import annotations

import warnings as _warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import (
    FloatArray,
    apart_from_data,
    check_count,
    check_number,
    frozen,
    group_numbers,
    random_generator,
)
from infogeo._plane_estimators import Measured, label_entropy
from infogeo._plane_input import leading, read_blocks, read_layers, read_variable
from infogeo._plane_methods import MEANING, cautions, choose
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.results import Result, Source

PlaneEstimator = Literal["kmeans", "binned", "ksg", "gaussian", "copula", "matrix_renyi", "gaussian_mixture"]
NoiseScale = Literal["layer", "absolute"]
UserEstimator = Callable[[FloatArray, NDArray[Any]], float]


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationPlane(Result):
    """Information of each layer with the input and with the target; raw estimates, never clipped.

    A network without noise loses nothing that rounding does not lose: the true I(X; T) is infinite for a continuous
    input, and the entropy of the input, at every layer, for a discrete one that the layer tells apart. ``meaning``
    says what the number is instead.
    """

    input_information: FloatArray
    """(L) I(X; T) of each layer."""
    output_information: FloatArray | None
    """(L) I(T; Y), None without a target."""
    input_interval: FloatArray | None = None
    """(L, 2) ends of an interval of coverage ``level``, from leaving out blocks of groups (jackknife)."""
    output_interval: FloatArray | None = None
    input_bounds: FloatArray | None = None
    """(L, 2) lower and upper bound of the noisy information, from the estimator ``gaussian_mixture`` alone."""
    output_bounds: FloatArray | None = None
    input_null: FloatArray | None = None
    """(L) what the estimator gives for shuffled labels of X, where that was measured: its error for rare labels."""
    output_null: FloatArray | None = None
    layers: tuple[int, ...]
    """Number of each layer; 0 is the embedding."""
    input_name: str
    """What X is."""
    output_name: str | None
    """What Y is."""
    estimator: str
    """Name, with the choices that matter."""
    noise: str
    """The noise, in words and numbers."""
    meaning: str
    """What the number is in place of the true information."""
    ceiling: float
    """The most that the estimator can return for n samples; infinity if it has no ceiling."""
    input_entropy: float | None = None
    """Plug-in entropy of the labels of X, None for vectors. The true I(X; T) is at most the true one; an estimate with
    its bias taken off may lie a little above."""
    output_entropy: float | None = None
    n: int
    """Samples."""
    n_groups: int
    """Groups of samples that depend on each other (texts)."""
    level: float | None
    unit: Unit
    warnings: tuple[str, ...] = ()
    """What speaks against trusting the numbers; each was also given as an EstimateWarning."""
    details: tuple[Mapping[str, Any], ...] = ()
    """(L) numbers of the method at each layer, in nats."""
    name: str = ""
    """Which model or checkpoint."""
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("layer", "input_information", "input_lower", "input_upper", "input_null", "output_information",
                   "output_lower", "output_upper", "output_null", "unit", "n", "estimator")
        table: list[tuple[Any, ...]] = []
        for i, layer in enumerate(self.layers):
            ends = [(None, None) if a is None else tuple(a[i].tolist())
                    for a in (self.input_interval, self.output_interval)]
            output, *nulls = (None if a is None else float(a[i])
                              for a in (self.output_information, self.input_null, self.output_null))
            table.append((layer, float(self.input_information[i]), *ends[0], nulls[0], output, *ends[1], nulls[1],
                          self.unit, self.n, self.estimator))
        return columns, table

    def summary(self) -> str:
        of = f" of {self.name}" if self.name else ""
        target = "" if self.output_name is None else f" and {self.output_name}"
        return (f"InformationPlane{of}: {len(self.layers)} layers, {self.input_name}{target}, {self.estimator}, "
                f"n = {self.n}, {self.unit}")


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationPath(Result):
    """Information planes of several models or checkpoints in order: the path through training."""

    planes: tuple[InformationPlane, ...]
    """One for each model, named, with the same layers, estimator, noise rule and unit."""

    def __post_init__(self) -> None:
        if not self.planes:
            raise ArgumentError("planes: found none, wanted at least one InformationPlane")
        first = self.planes[0]
        for plane in self.planes:
            for what in ("unit", "estimator", "input_name", "output_name", "layers"):
                if getattr(plane, what) != getattr(first, what):
                    raise ArgumentError(
                        f"planes: {plane.name or 'a plane'} has {what} {getattr(plane, what)!r}, but the first has "
                        f"{getattr(first, what)!r}; measure all in the same way"
                    )
        if len({plane.name for plane in self.planes}) < len(self.planes):
            raise ArgumentError("planes: two planes have the same name; give each model its own with name=")

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = self.planes[0].rows()[0]
        return ("model", *columns), [(plane.name, *row) for plane in self.planes for row in plane.rows()[1]]

    def summary(self) -> str:
        return f"InformationPath through {', '.join(plane.name for plane in self.planes)}"


def information_plane(
    layers: ArrayLike | Sequence[ArrayLike],
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    estimator: PlaneEstimator | UserEstimator = "kmeans",
    noise: float | None = None,
    noise_scale: NoiseScale = "layer",
    clusters: int | None = None,
    bins: int = 30,
    components: int | None = None,
    neighbors: int = 3,
    alpha: float = 1.01,
    width: float | None = None,
    draws: int = 4,
    corrected: bool = True,
    permutations: int = 5,
    groups: ArrayLike | None = None,
    blocks: int = 20,
    level: float | None = 0.95,
    names: tuple[str, str] = ("X", "Y"),
    numbers: Sequence[int] | None = None,
    rng: Any = None,
    unit: Unit = "nats",
    source: Source | None = None,
) -> InformationPlane:
    r"""Information of each layer T with the input X and with the target Y [1]_.

    A network is a function. If X is continuous, I(X; T) is infinite; if X is discrete and no two inputs meet in a
    layer, it is H(X) at all layers [2]_, [3]_. Every finite number that moves from layer to layer belongs to a noise, a
    quantization or an estimator's error. Which one it is stands in ``noise`` and ``meaning`` of the result:

    ``"kmeans"``
        T is replaced by the number of its cluster (k-means, k much smaller than n) and the information of two discrete
        variables is estimated, as for transformers in [4]_: plug-in, with the correction of Miller and Madow unless
        ``corrected=False``. At most log k. Vectors as X or Y are clustered too.
    ``"binned"``
        T is replaced by its cell in a grid on the range of the layer's own entries [1]_. Refused where more than half
        as many cells as samples are occupied, since the number is then near log n: in high dimension use
        ``components``.
    ``"gaussian_mixture"``
        T plus normal noise of standard deviation sigma, which must be given: the empirical mixture's information by
        Monte Carlo [3]_, with the pairwise bounds of [5]_,

        .. math:: -\frac1n \sum_i \log \frac1n \sum_j e^{-\|t_i - t_j\|^2 / 8\sigma^2} \le I(X; T + Z) \le
                  -\frac1n \sum_i \log \frac1n \sum_j e^{-\|t_i - t_j\|^2 / 2\sigma^2}

        if all inputs differ; with labels the bounds of h(T) less those of h(T | label), crossed. Each sample is one of
        the states of its own label, so that rare labels raise the number: see ``permutations``.
    ``"ksg"``, ``"gaussian"``, ``"copula"``
        The estimators of :mod:`infogeo.mutual_information`; the first takes labels (as the mixed estimator) and
        vectors, the others vectors only.
    ``"matrix_renyi"``
        :math:`S(A) + S(B) - S(A \circ B)` of trace-normalized kernel matrices, order ``alpha`` [6]_. Takes the
        eigenvalues of n by n matrices, again for each block: for n beyond 500 give ``level=None``.
    a function
        of states (n, d) and labels (n,) or vectors (n, p), that returns nats.

    Intervals come from leaving out blocks of groups in turn (delete-a-group jackknife with the t distribution), so that
    dependence inside a group does not narrow them. They hold the clusters or bins fixed, and do not cover bias.

    Parameters
    ----------
    layers : array_like, shape (L, n, d), or sequence of arrays (n, d_l)
        States of the same n samples at each layer.
    x : array_like, optional
        Labels (n,), whole numbers or strings, or vectors (n, p). Without it every sample is an input of its own
        (not with ksg, gaussian and copula). Whole numbers stored as floats (n,) that repeat are refused, since they may
        be meant as either.
    y : array_like, optional
        The target, likewise; without it I(T; Y) is left out.
    estimator : str or callable
    noise : float, optional
        Standard deviation of normal noise added to every component of T: exactly for ``gaussian_mixture`` (required
        there), drawn once for the others (by default none).
    noise_scale : {"layer", "absolute"}
        Whether ``noise`` counts in root mean square standard deviations of the layer's components or in its own units.
    clusters : int, optional
        k of k-means; by default n / 20, at least 2 and at most 100.
    bins : int
        Intervals per component of ``binned``.
    components : int, optional
        Keep only so many leading principal components of each layer.
    neighbors : int
        k of ``ksg``.
    alpha : float
        Order of ``matrix_renyi``.
    width : float, optional
        Kernel width of ``matrix_renyi``; by default each layer's median distance between states.
    draws : int
        Noise vectors per state of ``gaussian_mixture``.
    corrected : bool
        Miller–Madow correction of ``kmeans`` and ``binned``.
    permutations : int
        Shuffles of the labels that show what these two, and ``gaussian_mixture``, return for independent labels
        (``input_null``).
    groups : array_like, shape (n,), optional
        Which samples belong together, such as the number of the text; by default each is independent.
    blocks : int
        Most blocks that the groups are dealt into at random.
    level : float, optional
        Coverage of the intervals, None for none.
    names : (str, str)
        What X and Y are called.
    numbers : sequence of int, optional
        Numbers of the layers, by default 0, 1, ...
    rng : None, int or Generator
        Seeds clusters, noise, blocks and permutations. The noise is no part of the stream that the same seed gives.
    unit : {"nats", "bits"}
    source : Source, optional

    Returns
    -------
    InformationPlane

    Raises
    ------
    ShapeError
        If layers, labels and groups have different numbers of samples, or there is no sample or layer.
    DomainError
        If an entry is not finite, or binning saturates.
    ArgumentError
        If an argument does not exist or does not fit the estimator.

    Notes
    -----
    ``gaussian_mixture`` and ``matrix_renyi`` hold several n by n matrices of float64: 0.2 GB each for n = 5,000.

    References
    ----------
    .. [1] R. Shwartz-Ziv, N. Tishby, "Opening the black box of deep neural networks via information",
       arXiv 1703.00810.
    .. [2] R. A. Amjad, B. C. Geiger, "Learning representations for neural network-based classification using the
       information bottleneck principle", IEEE TPAMI 42, 2020.
    .. [3] Z. Goldfeld et al., "Estimating information flow in deep neural networks", ICML 2019, arXiv 1810.05728.
    .. [4] E. Voita, R. Sennrich, I. Titov, "The bottom-up evolution of representations in the transformer",
       EMNLP 2019, arXiv 1909.01380.
    .. [5] A. Kolchinsky, B. D. Tracey, "Estimating mixture entropy with pairwise distances", Entropy 19, 2017.
    .. [6] L. G. Sanchez Giraldo, M. Rao, J. C. Principe, "Measures of entropy from data using infinitely divisible
       kernels", IEEE Transactions on Information Theory 61, 2015.

    Examples
    --------
    Four kinds of input far apart in the first layer; the second layer joins them two by two.

    >>> kind = np.arange(400) % 4
    >>> jitter = 0.01 * np.random.default_rng(0).normal(size=(400, 2))
    >>> corners = np.array([[0., 0.], [0., 1.], [1., 0.], [1., 1.]])
    >>> states = [corners[kind] + jitter, corners[kind] * [1, 0] + jitter]
    >>> plane = information_plane(states, kind, kind // 2, clusters=4, corrected=False, rng=0, unit="bits", level=None)
    >>> plane.input_information[0].round(6), plane.output_information.round(6).tolist()
    (np.float64(2.0), [1.0, 1.0])
    """
    generator = random_generator(rng)
    scale = per_nat(unit)
    if not isinstance(names, tuple | list) or len(names) != 2:
        raise ArgumentError(f"names: found {names!r}, wanted two, what X and Y are called")
    states = read_layers(layers)
    n = len(states[0])
    given = [(x, names[0])] if y is None else [(x, names[0]), (y, names[1])]
    variables = tuple(read_variable(value, name, n) for value, name in given)
    numbered = tuple(range(len(states))) if numbers is None else tuple(check_count("numbers", i) for i in numbers)
    if len(numbered) != len(states):
        raise ShapeError(f"numbers: found {len(numbered)}, wanted one for each of {len(states)} layers")
    sigma = _read_noise(noise, noise_scale)
    if sigma is not None:
        generator = apart_from_data(generator)
    group_of = group_numbers(groups, n)
    block_of = read_blocks(group_of, blocks, level, generator)
    if components is not None:
        states = [leading(t, components, i) for t, i in zip(states, numbered, strict=True)]
    spread = [float(np.sqrt(t.var(axis=0).mean())) for t in states]
    for i, width_of in zip(numbered, spread, strict=True):
        if width_of == 0 and sigma is not None and noise_scale == "layer":
            raise DomainError(f"layer {i} is constant, so that noise in units of its spread is zero; "
                              "use noise_scale='absolute'")
    sigmas = [None if sigma is None else sigma * (s if noise_scale == "layer" else 1.0) for s in spread]
    name, described, ceiling, estimators = choose(
        estimator, states, numbered, sigmas, variables, clusters=clusters, bins=bins, neighbors=neighbors, alpha=alpha,
        width=width, draws=draws, corrected=corrected, permutations=permutations, rng=generator,
    )
    measured: list[Measured] = []
    for t, s, estimate in zip(states, sigmas, estimators, strict=True):
        noisy = t if s is None or name == "gaussian_mixture" else t + s * generator.standard_normal(t.shape)
        measured.append(estimate(noisy, variables, block_of))
    said = cautions(name, measured, variables, numbered, ceiling, n)
    for text in said:
        _warnings.warn(text, EstimateWarning, stacklevel=2)
    values = scale * np.array([m.values for m in measured])
    intervals = None if block_of is None or level is None else scale * _jackknife(measured, level)
    bounds = scale * np.array([m.bounds for m in measured]) if measured[0].bounds else None
    entropies = [None if v.codes is None else scale * label_entropy(v.codes) for v in variables]
    two = y is not None
    return InformationPlane(
        input_information=frozen(values[:, 0]), output_information=frozen(values[:, 1]) if two else None,
        input_interval=None if intervals is None else frozen(intervals[:, 0]),
        output_interval=None if intervals is None or not two else frozen(intervals[:, 1]),
        input_bounds=None if bounds is None else frozen(bounds[:, 0]),
        output_bounds=None if bounds is None or not two else frozen(bounds[:, 1]),
        input_null=_nulls(measured, 0, scale), output_null=_nulls(measured, 1, scale) if two else None,
        layers=numbered, input_name=names[0], output_name=names[1] if two else None, estimator=described,
        noise=_noise_in_words(name, sigma, noise_scale, sigmas), meaning=MEANING[name], ceiling=scale * ceiling,
        input_entropy=entropies[0], output_entropy=entropies[1] if two else None, n=n,
        n_groups=int(group_of.max()) + 1, level=level, unit=unit, warnings=said,
        details=tuple({**m.details, "sigma": s} for m, s in zip(measured, sigmas, strict=True)),
        source=source or Source(),
    )


def _read_noise(noise: float | None, noise_scale: str) -> float | None:
    if noise_scale not in ("layer", "absolute"):
        raise ArgumentError(f"noise_scale: found {noise_scale!r}, wanted 'layer' or 'absolute'")
    sigma = None if noise is None else check_number("noise", noise)
    if sigma is not None and not 0 < sigma < np.inf:
        raise DomainError(f"noise: found {sigma}, wanted a positive finite standard deviation, or None for no noise")
    return sigma


def _noise_in_words(name: str, sigma: float | None, noise_scale: str, sigmas: list[float | None]) -> str:
    if sigma is None:
        return {
            "kmeans": "none; the layer is quantized to clusters", "binned": "none; the layer is quantized to bins",
        }.get(name, "none")
    known = [s for s in sigmas if s is not None]
    units = "times the spread of the layer" if noise_scale == "layer" else "in the units of the states"
    drawn = "" if name == "gaussian_mixture" else ", drawn once"
    return f"normal, standard deviation {sigma:g} {units} ({min(known):.3g} to {max(known):.3g}){drawn}"


def _nulls(measured: list[Measured], which: int, scale: float) -> FloatArray | None:
    found = [m.details.get("null", (None, None))[which] for m in measured]
    return None if any(value is None for value in found) else frozen(scale * np.array(found))


def _jackknife(measured: list[Measured], level: float) -> FloatArray:
    """(L, variables, 2) from leaving out each block in turn."""
    from scipy.stats import t as student

    ends = []
    for m in measured:
        b = len(m.left_out)
        center = np.array(m.values)
        error = np.sqrt((b - 1) / b * ((m.left_out - m.left_out.mean(axis=0)) ** 2).sum(axis=0))
        half = float(student.ppf((1 + level) / 2, b - 1)) * error
        ends.append(np.stack([center - half, center + half], axis=-1))
    return np.array(ends)
