"""A layer as a linear channel with Gaussian noise, fitted to samples of its input and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, check_count, group_numbers, random_generator
from infogeo._units import Unit, per_nat
from infogeo.capacity._linear_fit import Fit, Jackknifed, fits_by_fold, jackknife, rate_of_shuffled
from infogeo.capacity._samples import (
    check_level,
    fold_of_groups,
    read_noise,
    read_power,
    read_samples,
    say_noise,
    t_quantile,
    warn_all,
)
from infogeo.capacity.results import LayerCapacity
from infogeo.errors import ArgumentError, DomainError, ShapeError

EMPTY = 1e-12
"""A principal direction with less than this share of the largest variance does not vary, but for rounding."""

EXACT = 1e-9
"""A direction of the output of whose variance less than this is left by the fit has no noise, but for rounding."""

LARGE = 0.1
"""A correction beyond this share of the capacity is warned of."""

UNRESOLVED = 0.25
"""So is an estimate without shrinkage that is higher by more than this share."""

LEFT = 0.04
"""What the corrections leave, as a share of capacity less rate, up to ten samples for each direction; then less."""

RANGE = (1e-120, 1e120)
"""Deviations from the mean beyond these have squares and quotients that float64 cannot hold."""

NEGLIGIBLE = 1e-3
"""Below this share of spurious gain they leave nothing, as with a linear map under stated noise."""


def linear_gaussian_capacity(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    noise: Any = "residual",
    power: float | None = None,
    shrinkage: Literal["james_stein"] | None = "james_stein",
    components: int | None = None,
    folds: int = 10,
    permutations: int = 0,
    level: float = 0.95,
    rng: Any = 0,
    unit: Unit = "nats",
) -> LayerCapacity:
    r"""Capacity, and rate at the actual input, of the linear channel with Gaussian noise fitted to samples.

    .. math:: y = A x + n, \qquad
              R = \tfrac12 \log\det(I + S_n^{-1} A S_x A^T), \qquad
              C = \max_{\mathrm{tr}\, Q \le P} \tfrac12 \log\det(I + S_n^{-1} A Q A^T)

    A is the regression of y on x, :math:`S_n` the covariance of what it leaves (or a stated one), and C is found by
    water-filling [1]_. R over C is the utilization.

    Choose this view to compare blocks by what a linear reader could pass through them, from forward passes alone. It
    assumes that what the best linear map does not explain acts as Gaussian noise: for a deterministic nonlinear layer
    the noise is its own nonlinearity, so the numbers say how well the layer acts as a linear channel. With normal
    input, and noise that is normal given the input, both numbers are exact; for other laws R is the information of the
    normal law with the same covariances. The capacity extrapolates the map to directions that the input hardly uses;
    directions that it never uses are left out, which ``constraint`` says.

    Plugging in sample covariances is too high by about :math:`pq/2n` nats. Four corrections make the numbers stable
    under doubling n: the exact bias of log-determinants of Wishart matrices for R; James and Stein's shrinkage [2]_ of
    the gain along each principal direction of the input, once of the fitted map and once of the map with the
    expectation of its spurious part taken off, for C minus R; the mean of the two; and the jackknife over folds of
    whole groups [3]_ for what is left. The interval is of Student's law on the jackknife's error, half of what the
    jackknife took off, half of what the two shrunk estimates differ by, and 4 percent of C minus R (less where n is
    above ten times p + q), added in squares. Where the input hardly varies in some directions, no estimate can tell
    whether these are closed or merely unused; shrinkage takes them as closed, and the upper end of the interval reaches
    up to the estimate that does not, if that is higher.

    Parameters
    ----------
    x : array_like, shape (n, p)
        Inputs of the layer, one row for each token.
    y : array_like, shape (n, q)
        Outputs.
    groups : array_like, shape (n,), optional
        The text of each token. Tokens of one text depend on each other, so folds take whole texts. Windows of one long
        text depend on each other too: number stretches of many windows. By default every row is independent.
    noise : "residual", float, or array_like of shape (q,) or (q, q)
        The residual of the fit, or the variance, variances or covariance of noise that you state. Stated noise replaces
        the residual, which is then not noise but left out.
    power : float, optional
        P, the largest sum of the variances of the input's components; by default that of the samples. The rate stays
        that of the actual input, so that a smaller power than its own may give a capacity below it.
    shrinkage : "james_stein" or None
        None leaves the gains as fitted; then the capacity is too high where n is not far above p + q.
    components : int, optional
        Keep only so many leading principal components of x and of y. By data processing the rate is a lower bound of
        that of the whole, with far fewer samples needed.
    folds : int
        Folds of the jackknife, at least 2; fewer where there are fewer groups.
    permutations : int
        Shuffles of the outputs against the inputs for the null and its p-value; with groups, rotations of the whole
        sequence, which leave neighbors together.
    level : float
        Coverage of the intervals.
    rng : int or numpy.random.Generator
        For the permutations.
    unit : {"nats", "bits"}

    Returns
    -------
    LayerCapacity
        ``rate`` may be negative: it is raw. ``details`` holds ranks, plug-in values, standard errors, what each
        correction took off, and ``utilization_interval``.

    Raises
    ------
    DomainError
        The map is exactly linear, so that the residual is no noise; too few samples for p + q; a value is not finite;
        nothing varies.
    ShapeError
        Shapes do not fit.
    ArgumentError
        An argument has no such value.

    Warns
    -----
    EstimateWarning
        The corrections are large, the samples do not tell the gain of directions that the capacity would use, it came
        out below the rate, or there are few groups.

    Notes
    -----
    What is left of the bias on channels of known capacity is tabled on the page on layers of the documentation: 1
    percent or less for maps of full rank whose signal is above the noise, from n = 3 (p + q) on; where the signal is as
    strong as the noise, or the map of low rank, 6 to 12 percent too low at n = 3 (p + q) and up to 4 at ten times
    p + q, which the interval allows for.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, "Elements of Information Theory", 2nd ed. 2006, sections 9.4 and 9.5.
    .. [2] W. James, C. Stein, "Estimation with quadratic loss", Fourth Berkeley Symposium, 1961.
    .. [3] B. Efron, C. Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(4000, 2)) * [2.0, 1.0]
    >>> y = x + rng.normal(size=(4000, 2))
    >>> found = linear_gaussian_capacity(x, y)
    >>> truth = 0.5 * np.log(3.5**2)  # both components at the level (5 + 2) / 2
    >>> bool(found.capacity_interval[0] < truth < found.capacity_interval[1])
    True
    >>> bool(abs(found.rate - 0.5 * np.log(5 * 2)) < 0.05)
    True
    """
    factor = per_nat(unit)
    level, permutations = check_level(level), check_count("permutations", permutations, 0)
    if shrinkage not in ("james_stein", None):
        raise ArgumentError(f"shrinkage: found {shrinkage!r}, wanted 'james_stein' or None")
    generator = random_generator(rng)
    messages: list[str] = []
    data = _prepared(x, y, groups, noise, power, components, folds, messages)
    found = _estimated(data, level, shrink=shrinkage is not None)
    null, p_value = _null(data, found.whole.rate, permutations, generator)
    _doubts(found, factor, unit, data.spent >= data.measured, messages)
    return LayerCapacity(
        view="linear_gaussian",
        capacity=factor * found.capacity.value,
        rate=factor * found.rate.value,
        capacity_interval=(factor * (found.capacity.value - found.t * found.capacity_half), factor * found.highest),
        rate_interval=_around(factor * found.rate.value, factor * found.t * found.rate.uncertainty),
        level=level,
        unit=unit,
        noise=data.say_noise(noise),
        constraint=data.say_constraint(measured=power is None, leading=components is not None),
        n=len(data.u),
        bias=factor * (found.whole.plug_in_capacity - found.capacity.value),
        null=None if null is None else factor * null,
        p_value=p_value,
        warnings=warn_all(messages, stacklevel=2),
        details={
            "groups": int(data.number.max()) + 1,
            "folds": data.folds,
            "input_rank": data.u.shape[1],
            "output_rank": data.v.shape[1],
            "components": components,
            "input_variance_kept": data.input_share,
            "power": data.spent,
            "shrinkage": shrinkage,
            "permutations": permutations,
            **found.details(factor),
        },
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Prepared:
    """Samples along the principal directions that count, with the noise and the power on them."""

    u: FloatArray
    """(n, r) input, centered."""
    v: FloatArray
    """(n, s) output, centered."""
    number: IntArray
    """(n,) group of each sample."""
    grouped: bool
    fold: IntArray
    """(n,)"""
    folds: int
    stated: FloatArray | None
    """(q, q) noise as it was given, None for the residual."""
    noise: FloatArray | None
    """(s, s) the same along the directions of ``v``."""
    total: float | None
    """The power given, None for the measured one."""
    input_share: float
    """Of the variance of the input, how much the directions of ``u`` hold."""
    left_out: int
    """Directions of the input that are not in ``u``."""

    @property
    def measured(self) -> float:
        """Variance of the input, summed over its directions."""
        return float((self.u**2).sum()) / (len(self.u) - 1)

    @property
    def spent(self) -> float:
        """The power allowed."""
        return self.measured if self.total is None else self.total

    def say_noise(self, given: Any) -> str:
        """The noise in words and numbers."""
        if self.stated is not None:
            return say_noise(given, self.stated)
        n, r = self.u.shape
        left = float(((self.v - self.u @ np.linalg.lstsq(self.u, self.v, rcond=None)[0]) ** 2).sum()) / (n - 1 - r)
        return f"residual of the linear fit, total variance {left:.6g} in {self.v.shape[1]} directions"

    def say_constraint(self, *, measured: bool, leading: bool) -> str:
        """The input constraint in words and numbers."""
        rest = "other stays as it is" if self.left_out == 1 else "others stay as they are"
        return (
            f"variances of the {self.u.shape[1]} {'leading ' if leading else ''}principal directions of the input sum "
            f"to {self.spent:.6g} at most{', as measured' if measured else ''}"
            + (f"; {self.left_out} {rest}" if self.left_out else "")
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Estimated:
    """What the fits to all samples, and to all but one fold, come to; in nats."""

    whole: Fit
    capacity: Jackknifed
    capacity_half: float
    """Half the width of its interval, in units of Student's quantile."""
    difference: float
    """Of the two shrunk estimates."""
    unshrunk: Jackknifed
    rate: Jackknifed
    utilization: Jackknifed
    t: float
    """Student's quantile."""

    @property
    def highest(self) -> float:
        """Upper end of the interval of the capacity."""
        return max(
            self.capacity.value + self.t * self.capacity_half, self.unshrunk.value + self.t * self.unshrunk.error
        )

    def details(self, factor: float) -> dict[str, Any]:
        """Numbers of the method, in a unit."""
        return {
            "directions_kept": self.whole.kept,
            "spurious_share": self.whole.spurious,
            "plug_in_capacity": factor * self.whole.plug_in_capacity,
            "plug_in_rate": factor * self.whole.plug_in_rate,
            "rate_bias": factor * (self.whole.plug_in_rate - self.rate.value),
            "capacity_jackknife_correction": factor * self.capacity.correction,
            "rate_jackknife_correction": factor * self.rate.correction,
            "capacity_standard_error": factor * self.capacity.error,
            "rate_standard_error": factor * self.rate.error,
            "difference_of_shrunk_estimates": factor * self.difference,
            "unshrunk_capacity": factor * self.unshrunk.value,
            "utilization_interval": _around(self.utilization.value, self.t * self.utilization.uncertainty),
        }


def _prepared(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike | None, noise: Any, power: float | None, components: int | None,
    folds: int, messages: list[str],
) -> _Prepared:
    """Arguments checked, samples turned to the directions that count."""
    x, y = read_samples("x", x), read_samples("y", y)
    if len(x) != len(y):
        raise ShapeError(f"x and y: found {len(x)} and {len(y)} samples, wanted one output for each input")
    number = group_numbers(groups, len(x))
    folds = check_count("folds", folds, 2)
    if components is not None:
        components = check_count("components", components, 1)
    residual = isinstance(noise, str)
    if residual and noise != "residual":
        raise ArgumentError(f"noise: found {noise!r}, wanted 'residual' or stated variances")
    stated = None if residual else read_noise("noise", noise, y.shape[1])
    total = None if power is None else read_power(power, 1.0)
    for name, values in (("x", x), ("y", y)):
        _check_range(name, values)
    fold, folds = _folds(number, groups is not None, folds, messages)
    x_basis, share = _principal("x", x, components)
    y_basis = np.eye(y.shape[1]) if stated is not None and components is None else _principal("y", y, components)[0]
    u, v = (x - x.mean(axis=0)) @ x_basis, (y - y.mean(axis=0)) @ y_basis
    _check_size(len(u) - int(np.bincount(fold).max()), u.shape[1], v.shape[1], residual)
    if residual:
        _check_residual(u, v)
    return _Prepared(
        u=u, v=v, number=number, grouped=groups is not None, fold=fold, folds=folds, stated=stated,
        noise=None if stated is None else y_basis.T @ stated @ y_basis, total=total, input_share=share,
        left_out=x.shape[1] - u.shape[1],
    )


def _estimated(data: _Prepared, level: float, *, shrink: bool) -> _Estimated:
    """Fits to all samples and to all but one fold, jackknifed."""
    whole, parts = fits_by_fold(data.u, data.v, data.fold, data.noise, data.total, shrink=shrink)
    capacity, half, difference = _capacity(whole, parts, (data.u.shape[1] + data.v.shape[1]) / len(data.u))
    quotients = np.array([part.rate / part.capacity if part.capacity > 0 else np.nan for part in parts])
    return _Estimated(
        whole=whole, capacity=capacity, capacity_half=half, difference=difference,
        unshrunk=jackknife(whole.unshrunk, np.array([part.unshrunk for part in parts])),
        rate=jackknife(whole.rate, np.array([part.rate for part in parts])),
        utilization=jackknife(whole.rate / whole.capacity if whole.capacity > 0 else np.nan, quotients),
        t=t_quantile(level, data.folds - 1),
    )


def _around(value: float, half: float) -> tuple[float, float]:
    return float(value - half), float(value + half)


def _capacity(whole: Fit, parts: list[Fit], size: float) -> tuple[Jackknifed, float, float]:
    """Jackknifed capacity, half the width of its interval in units of Student's quantile, and the method's spread."""
    found = jackknife(whole.capacity, np.array([part.capacity for part in parts]))
    spread = jackknife(whole.spread, np.array([part.spread for part in parts])).value
    left = LEFT * (whole.capacity - whole.rate) * min(1.0, 10 * size) * min(1.0, whole.spurious / NEGLIGIBLE)
    return found, float(np.sqrt(found.error**2 + (found.correction / 2) ** 2 + (spread / 2) ** 2 + left**2)), spread


def _folds(number: IntArray, given: bool, folds: int, messages: list[str]) -> tuple[IntArray, int]:
    """Fold of each sample and how many folds there are."""
    count, n = int(number.max()) + 1, len(number)
    if given and count == 1:
        folds = min(folds, n)
        messages.append("there is one group only; stretches of it serve as folds, and the intervals are too narrow")
        return np.arange(n) * folds // n, folds
    folds = min(folds, count)
    if given and count < 5:
        messages.append(f"there are {count} groups only, so that the error is hardly known; give more texts")
    return fold_of_groups(number, folds), folds


def _principal(name: str, values: FloatArray, components: int | None) -> tuple[FloatArray, float]:
    """Directions (d, r) in which the samples vary, or the leading ones, and their share of the variance."""
    centered = values - values.mean(axis=0)
    size = np.abs(centered).max()
    if not size > 0:
        raise DomainError(f"{name}: all samples are the same; a constant carries no information")
    centered = centered / size
    variances, basis = np.linalg.eigh(centered.T @ centered)
    keep = np.flatnonzero(variances > EMPTY * variances[-1])[::-1]
    if components is not None:
        if components > values.shape[1]:
            raise ArgumentError(f"components: found {components}, {name} has {values.shape[1]} components")
        keep = keep[:components]
    return np.asarray(basis[:, keep]), float(variances[keep].sum() / variances.sum())


def _check_range(name: str, values: FloatArray) -> None:
    """Raise if products of the deviations from the mean would overflow or vanish."""
    with np.errstate(over="ignore"):
        size = float(np.abs(values - values.mean(axis=0)).max())
    if size != 0 and not RANGE[0] < size < RANGE[1]:
        raise DomainError(
            f"{name}: the largest deviation from the mean is {size:.4g}, wanted {RANGE[0]:g} to {RANGE[1]:g}, since "
            "its square must be a number; rescale the samples"
        )


def _check_size(least: int, p: int, q: int, residual: bool) -> None:
    """Raise unless the fits that leave a fold out have degrees of freedom left."""
    wanted = p + q + 3 if residual else p + 3
    if least < wanted:
        raise DomainError(
            f"x and y: {least} samples are left when the largest fold is out, wanted at least {wanted} for {p} input "
            f"and {q} output directions; give more samples, or project with components="
        )


def _check_residual(u: FloatArray, v: FloatArray) -> None:
    """Raise if the fit leaves nothing in some direction of the output."""
    a, b = np.linalg.qr(u)[0], np.linalg.qr(v)[0]
    missing = b - a @ (a.T @ b)
    left = np.linalg.eigvalsh(missing.T @ missing)
    exact = int((left < EXACT).sum())
    if exact:
        raise DomainError(
            f"noise: the linear map is exact in {exact} of {len(left)} directions of the output (the fit leaves "
            f"{max(left[0], 0.0):.1e} of the variance), so that the capacity at the residual noise is infinite; state "
            "the noise: a variance, or number_format_noise(y, dtype)"
        )


def _null(
    data: _Prepared, observed: float, permutations: int, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Mean rate under shuffles, in nats, and the share of them at least as high as the one observed."""
    if not permutations:
        return None, None
    u, v, n = data.u, data.v, len(data.u)
    if data.grouped:
        by_group = np.argsort(data.number, kind="stable")
        u, v = u[by_group], v[by_group]
        longest = int(np.bincount(data.number).max())
        if 2 * longest >= n:
            raise ArgumentError("permutations: one group holds half the samples; rotations need several groups")
        shifts = rng.integers(longest, n - longest + 1, size=permutations)
        orders = [np.roll(np.arange(n), shift) for shift in shifts]
    else:
        orders = [rng.permutation(n) for _ in range(permutations)]
    rates = np.array([rate_of_shuffled(u, v, data.noise, order) for order in orders])
    return float(rates.mean()), (1 + int((rates >= observed).sum())) / (1 + permutations)


def _doubts(found: _Estimated, factor: float, unit: str, allowed: bool, messages: list[str]) -> None:
    """Say what speaks against the numbers; ``allowed``: whether the actual input keeps to the power."""
    capacity, rate, unshrunk = found.capacity, found.rate, found.unshrunk
    if abs(capacity.correction) > LARGE * abs(capacity.value):
        messages.append(
            f"the jackknife took {factor * capacity.correction:.4g} {unit} off a capacity of "
            f"{factor * capacity.value:.4g}: there are too few samples for so many components; give more, or project "
            "with components="
        )
    if unshrunk.value - capacity.value > UNRESOLVED * abs(capacity.value):
        messages.append(
            f"the capacity may be anywhere up to {factor * unshrunk.value:.4g} {unit}: the input varies so little in "
            "some directions that the samples do not tell whether they pass anything (the rate is not concerned); give "
            "more samples, or project with components= for a constraint that they support"
        )
    if allowed and capacity.value < rate.value:
        messages.append(
            f"the capacity came out below the rate ({factor * capacity.value:.4g} and {factor * rate.value:.4g} {unit})"
            ", by the error of both"
        )
