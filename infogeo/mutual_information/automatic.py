"""Mutual information of any two variables: looks at the samples, chooses an estimator, and says why."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from infogeo._arrays import is_tensor
from infogeo._checks import FloatArray, IntArray, check_count, random_generator
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning, InformationEstimate
from infogeo.mutual_information._choice import (
    Outcome,
    Sampling,
    by_labels,
    by_labels_and_neighbors,
    by_linear_part_and_neighbors,
    by_neighbors,
    by_normal_formula,
    spread,
)
from infogeo.mutual_information._labels import as_codes
from infogeo.mutual_information._normal_dependence import (
    Dependence,
    margins_look_normal,
    neighbor_information,
    normal_dependence,
    whitened,
)
from infogeo.mutual_information._samples import check_neighbors, normal_scores, read_samples, without_constants
from infogeo.mutual_information.significance import Progress, check_level, permutation_test

Method = Literal["auto", "gaussian", "copula", "ksg", "mixed", "discrete"]
"""An estimator, or the choice between them."""

NORMAL_MARGIN = 0.01
"""p-value below which the columns are replaced by their normal scores."""

NORMAL_DEPENDENCE = 1e-3
"""p-value below which the dependence is not taken for that of normal variables."""

REPEATED_ROWS = 0.1
"""Share of samples that are copies of others above which it is said."""

NEIGHBOR_COLUMNS = 6
"""Joint columns up to which neighbors are used where the dependence is not normal."""

SAMPLES_PER_COLUMN = 4
LEAST_SAMPLES = 50
"""Samples for each joint column, and in all, below which the tests of the normal dependence show nothing."""

LIGHT_TAILS = 6.0
"""Largest fourth standardized moment with which columns are only standardized before distances are taken."""


@dataclass(frozen=True)
class _Variable:
    """Samples of one variable: labels, or numbers without constant columns."""

    name: str
    codes: IntArray | None
    numbers: FloatArray | None
    few_values: bool
    """Whether some, not all, columns take few values."""

    @property
    def dimension(self) -> int:
        return 0 if self.numbers is None else self.numbers.shape[1]


def estimate_mutual_information(
    x: Any,
    y: Any,
    *,
    method: Method = "auto",
    level: float = 0.95,
    permutations: int = 0,
    groups: Any = None,
    k: int = 3,
    unit: Unit = "nats",
    rng: Any = 0,
    progress: Progress | None = None,
) -> InformationEstimate:
    r"""Mutual information of two variables from samples, by the estimator that the samples call for.

    .. math:: I(X; Y) = \int p(x, y) \log \frac{p(x, y)}{p(x)\, p(y)}

    The choice, in this order:

    1. Labels (strings, truth values, or numbers with no more than :math:`\sqrt n` different values): two discrete
       variables by :func:`discrete_mutual_information`, one by :func:`mixed_mutual_information`.
    2. Numbers whose dependence is that of normal variables: by :func:`gaussian_mutual_information` if each column looks
       normal, by :func:`gaussian_copula_mutual_information` if the columns' ranks do. It is tested whether the residual
       of y on x is independent of x, and that of x on y of y, which together hold for normal variables only [1]_.
       In any dimension, without bias.
    3. Other numbers in up to six joint columns: :func:`ksg_mutual_information`.
    4. Other numbers in more columns: the linear part by the normal formula, up to twenty joint columns with what
       neighbors show between x and the residual of y. Always with a warning: nothing is known of what is missed.

    The interval covers the bias too. With neighbors it is widened by the bias that would remain if it fell as
    :math:`n^{-1/d}` with d joint columns, seen from the change with four times as many neighbors (which are used where
    they change nothing).

    Parameters
    ----------
    x, y : array_like, shape (n,) or (n, d), or sequence of n labels
        Samples; row i of both was observed together. Constant columns are left out.
    method : {"auto", "gaussian", "copula", "ksg", "mixed", "discrete"}
        The choice above, or one estimator whose assumptions are then not tested.
    level : float
        Coverage of the interval, between 0 and 1.
    permutations : int
        For a p-value of independence by :func:`permutation_test` with the chosen estimator; 0 for none.
    groups : sequence of n labels, optional
        Samples with one label depend on each other, as the tokens of one text do: the interval is made of whole groups,
        and the permutations exchange whole groups.
    k : int
        Neighbors, where they are used; four times as many where that changes the estimate by no more than noise.
    unit : {"nats", "bits"}
        Unit of the result.
    rng : int or numpy.random.Generator, optional
        For dealing samples into parts, and for permutations.
    progress : callable, optional
        Called as ``progress(done, permutations)`` after each permutation.

    Returns
    -------
    InformationEstimate
        The raw value, also if negative; ``interval``, ``method``, ``reason``, ``warnings``, and in ``details`` what the
        choice was based on.

    Raises
    ------
    ShapeError
        If there is no sample, or x, y and groups have different numbers of them.
    DomainError
        If a number is not finite, a label is NaN or None, or the method does not fit (see there).
    ArgumentError
        If an option is out of its range, or the method takes no labels, or labels only.

    Warns
    -----
    EstimateWarning
        What speaks against the estimate: too few samples for the columns, neighbors that are far, ties, a constant, a
        dependence that is not normal in many columns, information that may be infinite. Also in ``warnings``.

    References
    ----------
    .. [1] S. G. Ghurye and I. Olkin, "A characterization of the multivariate normal distribution", Annals of
       Mathematical Statistics 33, 1962.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((1000, 10))
    >>> found = estimate_mutual_information(x, x[:, :3] + rng.standard_normal((1000, 3)))
    >>> found.method, bool(found.interval[0] < 1.5 * np.log(2) < found.interval[1])
    ('gaussian', True)
    >>> words = rng.choice(["calm", "storm"], 1000)
    >>> estimate_mutual_information(words, rng.uniform(size=1000) + (words == "storm")).method
    'mixed (Ross)'
    """
    per = per_nat(unit)
    if method not in get_args(Method):
        raise ArgumentError(f"method: found {method!r}, wanted one of {', '.join(map(repr, get_args(Method)))}")
    check_count("permutations", permutations, 0)
    a, b = _read("x", x, method), _read("y", y, method)
    n = len(_rows(a))
    if n != len(_rows(b)):
        raise ShapeError(f"numbers of samples differ: x {n}, y {len(_rows(b))}; row i of each must come from the same "
                         "observation")  # fmt: skip
    k = check_neighbors(k, n)
    codes = None if groups is None else as_codes("groups", groups)
    if codes is not None and len(codes) != n:
        raise ShapeError(f"groups: found {len(codes)} labels for {n} samples; wanted one for each sample")
    sampling = Sampling(check_level(level), k, codes, random_generator(rng))
    outcome, reason, used = _estimate(a, b, method, sampling)
    said = list(outcome.doubts)
    for name, variable in (("x", a), ("y", b)):
        if variable.few_values:
            said.append(
                f"{name}: some columns take few values and others many; such mixtures are not accounted for in the "
                "interval"
            )
    if a.numbers is not None and b.numbers is not None and a.numbers.size and b.numbers.size:
        different = len(np.unique(np.column_stack([a.numbers, b.numbers]), axis=0))
        if different < (1 - REPEATED_ROWS) * n:
            said.append(
                f"repeated samples: of {n} rows of x and y together {different} differ; a copy is no further evidence, "
                "and neighbors take copies for dependence, so the estimate is likely too large; leave copies out"
            )
    p_value = None
    if permutations:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            test = permutation_test(
                *used, estimator=outcome.again, permutations=permutations, groups=groups, rng=sampling.rng,
                progress=progress,
            )  # fmt: skip
        said += [str(w.message) for w in caught if issubclass(w.category, EstimateWarning)]
        p_value, permutations = test.p_value, len(test.null)
    for doubt in said:
        warnings.warn(doubt, EstimateWarning, stacklevel=2)
    interval = outcome.interval
    no_nats = ("neighbors", "cells", "p_value_normal_dependence", "largest_canonical_correlation",
               "worth_independent_samples")  # fmt: skip
    return InformationEstimate(
        quantity="I(X; Y)",
        value=float(outcome.value * per),
        unit=unit,
        method=outcome.method,
        reason=reason,
        n=n,
        dimensions=(a.dimension, b.dimension),
        standard_error=None if outcome.error is None else outcome.error * per,
        interval=None if interval is None else (float(interval[0] * per), float(interval[1] * per)),
        level=None if interval is None else sampling.level,
        p_value=p_value,
        permutations=permutations,
        warnings=tuple(said),
        details={
            name: v * per if isinstance(v, float) and name not in no_nats else v for name, v in outcome.details.items()
        },
    )


def _rows(variable: _Variable) -> Any:
    return variable.numbers if variable.codes is None else variable.codes


def _read(name: str, value: Any, method: str) -> _Variable:
    """Labels or numbers; numbers with few different values count as labels unless the method takes numbers."""
    if isinstance(value, list | tuple) or not (is_tensor(value) or isinstance(value, np.ndarray)):
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.empty(0, dtype=object)
        kind = array.dtype.kind
    else:
        kind = "f" if is_tensor(value) and str(value.dtype) != "torch.bool" else np.asarray(value).dtype.kind
    if method == "discrete" or kind not in "fiuc":  # complex numbers are refused as numbers
        return _Variable(name, as_codes(name, value), None, False)
    numbers = read_samples(name, value)
    few = [len(np.unique(column)) ** 2 <= len(numbers) for column in numbers.T]
    if method in ("auto", "mixed") and all(few):
        codes = as_codes(name, numbers)
        if (int(codes.max()) + 1) ** 2 <= len(numbers) or codes.max() == 0:
            return _Variable(name, codes, None, False)
    constant = (numbers == numbers[:1]).all(axis=0)
    mixture = bool((np.array(few) & ~constant).any()) and not all(few)
    return _Variable(name, None, without_constants(numbers), mixture)


def _estimate(a: _Variable, b: _Variable, method: str, sampling: Sampling) -> tuple[Outcome, str, tuple[Any, Any]]:
    """Estimate, reason, and the arrays that it was made of."""
    for variable in (a, b):
        rows = _rows(variable)
        if variable.dimension == 0 and (variable.codes is None or variable.codes.max() == 0):
            doubt = f"{variable.name}: all samples are equal, and a constant carries no information: the estimate is 0"
            nothing = np.zeros(len(rows))
            none = Outcome(0.0, "none", lambda u, v: 0.0, 0.0, (0.0, 0.0), (doubt,))
            return none, f"{variable.name} is constant", (nothing, nothing)
    if a.codes is not None and b.codes is not None:
        _check_method(method, ("discrete",), "both variables are labels or take few values")
        return by_labels(a.codes, b.codes, sampling), "both variables are discrete", (a.codes, b.codes)
    if a.codes is not None or b.codes is not None:
        _check_method(method, ("mixed",), "one variable is labels or takes few values, the other numbers")
        swapped = a.codes is None
        labels, other = (b, a) if swapped else (a, b)
        assert labels.codes is not None
        assert other.numbers is not None
        reason = f"{labels.name} is discrete ({int(labels.codes.max()) + 1} values), {other.name} is not"
        found = by_labels_and_neighbors(labels.codes, other.numbers, sampling, swapped=swapped)
        return found, reason, (_rows(a), _rows(b))
    assert a.numbers is not None
    assert b.numbers is not None
    _check_method(method, ("gaussian", "copula", "ksg"), "both variables are numbers of many values")
    return _continuous(a.numbers, b.numbers, method, sampling)


def _check_method(method: str, fitting: tuple[str, ...], found: str) -> None:
    if method not in ("auto", *fitting):
        raise ArgumentError(f"method: found {method!r}, but {found}; use {' or '.join(map(repr, fitting))}, or 'auto'")


def _continuous(
    x: FloatArray, y: FloatArray, method: str, sampling: Sampling
) -> tuple[Outcome, str, tuple[FloatArray, FloatArray]]:
    n = len(x)
    # Powers of two change no digit, and keep squares in the range of float64.
    x, y = (np.ldexp(z, -np.frexp(np.abs(z).max(axis=0))[1]) for z in (x, y))
    if method == "ksg":
        x, y, scale = _for_distances(x, y)
        return by_neighbors(x, y, sampling, f"ksg ({scale})"), "asked for", (x, y)
    scores = method == "copula" or (
        method == "auto" and min(margins_look_normal(x), margins_look_normal(y)) < NORMAL_MARGIN
    )
    raw, name = (x, y), "copula" if scores else "gaussian"
    if scores:
        x, y = normal_scores(x), normal_scores(y)
    u, v = whitened(x), whitened(y)
    columns = u.shape[1] + v.shape[1]
    if n <= columns + 2:
        return _hopeless(*raw, method, columns, sampling)
    linear = np.linalg.svd(u.T @ v / n, compute_uv=False)
    if linear[0] > 1 - 1e-12:
        return _infinite(*raw, method, sampling)
    if method != "auto":
        return by_normal_formula(u, v, _untested(u, v), sampling, name), "asked for", (u, v)
    found = normal_dependence(u, v, columns=(x, y), spread=1.0, rng=sampling.rng)
    if sampling.groups is not None:
        found = normal_dependence(u, v, columns=(x, y), spread=spread(found, sampling), rng=sampling.rng)
    known = {"p_value_normal_dependence": found.p_value}
    if found.p_value >= NORMAL_DEPENDENCE:
        outcome = by_normal_formula(u, v, found, sampling, name)
        wanted = max(LEAST_SAMPLES, SAMPLES_PER_COLUMN * columns)
        if n < wanted:
            doubt = (
                f"{n} samples of {columns} joint columns are too few to see whether the dependence is that of normal "
                f"variables, which is assumed; give at least {wanted}"
            )
            outcome = replace(outcome, doubts=(doubt,))
        shown = "the columns look normal" if not scores else "the columns are not normal, their ranks are used"
        reason = f"{shown}; the linear residuals look independent (p = {found.p_value:.2g})"
        return replace(outcome, details={**outcome.details, **known}), reason, (u, v)
    why = f"not normal dependence: {found.against} its linear residual depend (p = {found.p_value:.1e})"
    if columns <= NEIGHBOR_COLUMNS:
        p, q, scale = _for_distances(*raw)
        outcome = by_neighbors(p, q, sampling, f"ksg ({scale})")
        reason = f"{why}; {columns} joint columns, few enough for neighbors"
        return replace(outcome, details={**outcome.details, **known}), reason, (p, q)
    outcome = by_linear_part_and_neighbors(u, v, found, sampling)
    reason = f"{why}; {columns} joint columns, too many for neighbors"
    return replace(outcome, details={**outcome.details, **known}), reason, (u, v)


def _untested(u: FloatArray, v: FloatArray) -> Dependence:
    left, rho, right = np.linalg.svd(u.T @ v / len(u))
    a, b = u @ left, v @ right.T
    return Dependence(1.0, "nothing was tested", np.minimum(rho, 1.0), ((a, b), (b, a)))


def _for_distances(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, str]:
    """Columns standardized, or by normal scores if one has heavy tails."""
    for z in (x, y):
        centered = z - z.mean(axis=0)
        centered = centered / np.abs(centered).max(axis=0)
        if ((centered**4).mean(axis=0) > LIGHT_TAILS * (centered**2).mean(axis=0) ** 2).any():
            return normal_scores(x), normal_scores(y), "normal scores"
    return x, y, "standardized"


def _hopeless(
    x: FloatArray, y: FloatArray, method: str, columns: int, sampling: Sampling
) -> tuple[Outcome, str, tuple[FloatArray, FloatArray]]:
    n = len(x)
    if method != "auto":
        raise DomainError(
            f"method {method!r}: found {n} samples of {columns} joint columns, wanted at least {columns + 3}; give "
            "more samples, or fewer columns (for example the first principal components)"
        )
    x, y, scale = _for_distances(x, y)
    doubt = (
        f"{n} samples of {columns} joint columns are hopelessly few: the estimate says nothing of the information; "
        "give more samples, or fewer columns (for example the first principal components)"
    )
    value = neighbor_information(x, y, k=sampling.k)
    outcome = Outcome(value, f"ksg ({scale})", lambda a, b: neighbor_information(a, b, k=sampling.k), doubts=(doubt,),
                      details={"neighbors": sampling.k})  # fmt: skip
    return outcome, f"{n} samples, {columns} joint columns", (x, y)


def _infinite(
    x: FloatArray, y: FloatArray, method: str, sampling: Sampling
) -> tuple[Outcome, str, tuple[FloatArray, FloatArray]]:
    """One variable has a linear combination that the other determines."""
    shown = "a linear combination of x equals one of y up to rounding"
    if method != "auto":
        raise DomainError(f"method {method!r}: {shown}: the information is infinite; add the noise that it has")
    x, y, scale = _for_distances(x, y)
    outcome = by_neighbors(x, y, sampling, f"ksg ({scale})")
    doubt = f"{shown}: the information is infinite unless it takes few values; the estimate only grows with log(n)"
    low = outcome.value if outcome.interval is None else outcome.interval[0]
    return replace(outcome, interval=(low, np.inf), doubts=(doubt, *outcome.doubts)), shown, (x, y)
