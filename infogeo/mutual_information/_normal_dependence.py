"""Are two variables dependent as jointly normal ones are? Margins, and whether linear residuals are independent.

If both residuals, of y on x and of x on y, are independent of what they were regressed on, the variables that carry the
dependence are normal: linear forms of independent variables are independent for normal ones only (S. G. Ghurye and
I. Olkin, "A characterization of the multivariate normal distribution", Annals of Mathematical Statistics 33, 1962).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray
from infogeo.mutual_information._neighbors import neighborhoods
from infogeo.mutual_information._samples import EPSILON, standardized
from infogeo.mutual_information.ksg import ksg_terms

NEIGHBOR_TEST_COLUMNS = 4
"""Joint columns up to which neighbors are asked too; above, only the leading two canonical pairs."""

NEIGHBOR_TEST_SAMPLES = 2000
BINS = 8
"""Most bins of a column, of at least five samples for each pair of bins."""
MEMORY = 20_000_000
"""Numbers that the counted bins of a group of columns may take."""
SHUFFLES = 12
DECIDED = 1e-6
"""p-value of the moments below which neighbors are not asked any more."""


@dataclass(frozen=True)
class Dependence:
    """Evidence against normal dependence, and the linear part of the dependence."""

    p_value: float
    """Of the test that speaks most against it, times the number of tests, at most 1."""
    against: str
    """What that test looked at."""
    canonical: FloatArray
    """Canonical correlations, the largest first."""
    residuals: tuple[tuple[FloatArray, FloatArray], ...]
    """(x, residual of y) and (y, residual of x), all columns uncorrelated and of variance one."""


def margins_look_normal(x: FloatArray) -> float:
    """The least p-value of a normal margin over the columns, times their number, at most 1.

    Squared correlation of the ordered column with normal quantiles (S. S. Shapiro and R. S. Francia, "An approximate
    analysis of variance test for normality", JASA 67, 1972), its law as approximated by P. Royston, "A toolkit for
    testing for non-normality in complete and censored samples", The Statistician 42, 1993.
    """
    from scipy.special import ndtr, ndtri

    n = len(x)
    quantiles = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    quantiles /= np.linalg.norm(quantiles)
    ordered = np.sort(x, axis=0)
    ordered = ordered - ordered.mean(axis=0)
    lack = 1 - (quantiles @ ordered) ** 2 / (ordered**2).sum(axis=0)
    u = np.log(n)
    v = np.log(u)
    z = (np.log(np.maximum(lack, EPSILON)) - (-1.2725 + 1.0521 * (v - u))) / (1.0308 - 0.26758 * (v + 2 / u))
    return float(min(1.0, ndtr(-z).min() * x.shape[1]))


def whitened(x: FloatArray) -> FloatArray:
    """Uncorrelated columns of variance one that span the centered columns of x, fewer where those are collinear."""
    x = x - x.mean(axis=0)
    x = x / np.sqrt((x**2).mean(axis=0))
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    kept = s > 1e-7 * s[0]
    return np.asarray(u[:, kept] * np.sqrt(len(x)))


def normal_dependence(
    x: FloatArray, y: FloatArray, *, columns: tuple[FloatArray, FloatArray] | None = None, spread: float,
    rng: np.random.Generator,
) -> Dependence:
    """Test whether the linear residuals of x and y are independent of the other variable.

    ``columns`` are those that x and y are combinations of, if they are; they are also looked at one by one.
    ``spread`` is by how much samples that depend on each other widen a squared statistic, 1 if they do not.
    """
    first, second = (x, y) if columns is None else columns
    a, b = whitened(x), whitened(y)
    u, rho, vt = np.linalg.svd(a.T @ b / len(a), full_matrices=True)
    a, b = a @ u, b @ vt.T
    rho = np.minimum(rho, 1.0)
    pairs = [_with_residual(a, b, rho), _with_residual(b, a, rho)]
    p_values: dict[str, list[float]] = {}
    significant = int((rho**2 > 2 * (a.shape[1] + b.shape[1]) / len(a)).sum())
    for given, residual in pairs:
        for name, p in _moment_tests(given, residual, max(1, significant), spread).items():
            p_values.setdefault(name, []).append(p)
    p_values["counted in the columns of a variable and"] = [
        _column_test(of, other, whole, spread, rng) for of, other, whole in ((first, second, a), (second, first, b))
    ]
    tests = sum(len(p) for p in p_values.values()) + len(pairs)
    if min(min(p) for p in p_values.values()) >= DECIDED:
        p_values["seen by neighbors, a variable and"] = [_neighbor_test(*pair, spread, rng) for pair in pairs]
    worst = min(p_values, key=lambda name: min(p_values[name]))
    return Dependence(min(1.0, tests * min(p_values[worst])), worst, rho, tuple(pairs))


def _with_residual(a: FloatArray, b: FloatArray, rho: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is left of b after its regression on a, with the same variance at each sample if b is normal given a."""
    r = len(rho)
    residual = b.copy()
    residual[:, :r] -= a[:, :r] * rho
    leverage = ((a**2).sum(axis=1, keepdims=True) + 1) / len(a)
    residual /= np.sqrt(np.maximum(1 - leverage, EPSILON))
    size = residual.std(axis=0)
    return a, residual / np.where(size > 1e-9, size, 1.0)


def _moment_tests(a: FloatArray, residual: FloatArray, leading: int, spread: float) -> dict[str, float]:
    """p-values: products of powers of a and of the residual that have mean zero if the two are independent."""
    far_a = (a**2).sum(axis=1, keepdims=True)
    far_r = (residual**2).sum(axis=1, keepdims=True)
    lead = residual[:, :leading]
    columns = a.shape[1]
    radial = a * (far_a / columns)
    return {
        "radial cubes of a variable and": _p_value(radial, residual, a, spread),
        "radial cubes of a variable and the leading columns of": _p_value(radial, lead, a, spread),
        "squares of a variable and": _p_value(a**2, residual, a, spread),
        "squares of a variable and the leading columns of": _p_value(a**2, lead, a, spread),
        "cubes of a variable and": _p_value(a**3, residual, a, spread),
        "the length of a variable and that of": _p_value(np.log(far_a + EPSILON), np.log(far_r + EPSILON), a, spread),
        "squares of a variable and squares of": _p_value(a**2, residual**2, a, spread),
    }


def _p_value(features: FloatArray, residual: FloatArray, linear: FloatArray, spread: float) -> float:
    """Of the sum of squared canonical correlations, after what is linear in ``linear`` is taken off the features.

    Under independence n times the sum is chi-squared with as many degrees as there are pairs of columns.
    """
    from scipy.special import gammaincc

    n = len(features)
    base = np.linalg.qr(np.column_stack([np.ones(n), linear]))[0]
    f = features - base @ (base.T @ features)
    f, e = _basis(f), _basis(residual - residual.mean(axis=0))
    degrees = f.shape[1] * e.shape[1]
    if degrees == 0:
        return 1.0
    statistic = (n - base.shape[1]) * float(((f.T @ e) ** 2).sum()) / spread
    return float(gammaincc(degrees / 2, statistic / 2))


def _column_test(x: FloatArray, y: FloatArray, linear: FloatArray, spread: float, rng: np.random.Generator) -> float:
    """p-value of the most dependent pair of a column of x and of what is left of a column of y after its regression.

    Chi-squared of counts in bins of equal size, times the number of pairs: sees a dependence of few columns among
    many, and of no particular shape, that sums over all columns drown.
    """
    from scipy.special import gammaincc

    n = len(x)
    bins = min(BINS, int(np.sqrt(n / 5)))
    if bins < 3:
        return 1.0
    y = y - y.mean(axis=0)
    left = _binned(y - linear @ (linear.T @ y) / n, bins, rng)
    pairs = x.shape[1] * y.shape[1]
    largest = 0.0
    step = max(1, MEMORY // (n * bins))
    for i in range(0, x.shape[1], step):
        counts = _binned(x[:, i : i + step], bins, rng).T @ left
        expected = np.outer(np.bincount(np.arange(n) * bins // n), np.bincount(np.arange(n) * bins // n)) / n
        table = counts.reshape(-1, bins, y.shape[1], bins).transpose(0, 2, 1, 3)
        largest = max(largest, float((((table - expected) ** 2) / expected).sum(axis=(2, 3)).max()))
    each = float(gammaincc((bins - 1) ** 2 / 2, largest / spread / 2))
    return float(min(1.0, pairs * each))


def _binned(x: FloatArray, bins: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, d * bins) one where a sample's rank falls into a bin; ties in random order."""
    n, d = x.shape
    place = np.empty((n, d), dtype=np.int64)
    for j in range(d):
        place[np.lexsort(np.stack([rng.random(n), x[:, j]])), j] = np.arange(n) * bins // n
    found = np.zeros((n, d, bins), dtype=np.float32)
    np.put_along_axis(found, place[:, :, None], 1.0, axis=2)
    return found.reshape(n, d * bins)


def _basis(x: FloatArray) -> FloatArray:
    length = np.sqrt((x**2).sum(axis=0))
    x = x[:, length > 1e-9 * np.sqrt(len(x))]
    if x.shape[1] == 0:
        return x
    u, s, _ = np.linalg.svd(x / np.sqrt((x**2).sum(axis=0)), full_matrices=False)
    return np.asarray(u[:, s > 1e-7 * s[0]])


def _neighbor_test(a: FloatArray, residual: FloatArray, spread: float, rng: np.random.Generator) -> float:
    """p-value of the information that neighbors show between a and the residual, next to shuffled residuals."""
    from scipy.special import stdtr

    if a.shape[1] + residual.shape[1] > NEIGHBOR_TEST_COLUMNS:
        a, residual = a[:, :2], residual[:, :2]
    if len(a) > NEIGHBOR_TEST_SAMPLES:
        kept = rng.permutation(len(a))[:NEIGHBOR_TEST_SAMPLES]
        a, residual = a[kept], residual[kept]
    if len(a) < 20:
        return 1.0
    found = neighbor_information(a, residual, k=5)
    null = np.array([neighbor_information(a, residual[rng.permutation(len(a))], k=5) for _ in range(SHUFFLES)])
    width = null.std(ddof=1) * np.sqrt((1 + 1 / SHUFFLES) * spread)
    if width == 0:
        return 1.0
    return float(stdtr(SHUFFLES - 1, -(found - null.mean()) / width))


def neighbor_information(x: FloatArray, y: FloatArray, *, k: int) -> float:
    """The first estimate of Kraskov et al. in nats, of columns that are on one scale already."""
    (x, first), (y, second) = standardized(x), standardized(y)
    found = neighborhoods([x, y], [(0,), (1,)], np.maximum(first, second), k=k)
    return float(ksg_terms(found, k).mean())
