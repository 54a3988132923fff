"""Mutual information of labels, and of numbers sorted into bins."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_array, as_float_array, check_count
from infogeo._units import Unit, per_nat
from infogeo.discrete_entropy import estimate_entropy
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._labels import as_codes, pair_counts
from infogeo.mutual_information._samples import check_lengths, read_together, say_constant, without_constants

Correction = Literal["plug_in", "miller_madow", "grassberger", "chao_shen", "chao_wang_jost"]
"""How the three entropies are estimated from counts; named as in :func:`infogeo.estimate_entropy`."""

MOST = 2.0**62
"""Sums of counts below it are whole numbers of 64 bits."""

Bins = int | ArrayLike | tuple[int | ArrayLike, int | ArrayLike]


def discrete_mutual_information(
    x: Any, y: Any = None, *, correction: Correction = "miller_madow", unit: Unit = "nats"
) -> float:
    r"""Mutual information of two discrete variables, from labels or from a contingency table.

    .. math:: I = \hat H(X) + \hat H(Y) - \hat H(X, Y)

    The frequencies alone ("plug_in") give too much, by about :math:`(K_{xy} - K_x - K_y + 1) / 2n` when K values were
    seen in n samples; "miller_madow" takes that off [1]_. The other corrections are those of
    :func:`estimate_entropy`, applied to the three entropies. The estimate is raw: a corrected one may be negative.

    Parameters
    ----------
    x, y : sequence of n labels
        Numbers, strings or any hashable things, or the rows of an array (n, d). With x alone it is a table of counts
        of shape (values of X, values of Y).
    correction : str
        "plug_in", "miller_madow", "grassberger", "chao_shen" or "chao_wang_jost".
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or x and y have different numbers of them.
    DomainError
        If a label is NaN, None or not hashable, or a count is negative or not a whole number.
    ArgumentError
        If the correction does not exist.

    Warns
    -----
    EstimateWarning
        If more than half of the samples are of pairs seen once: the estimate then shows the number of samples.

    References
    ----------
    .. [1] S. Panzeri and A. Treves, "Analytical estimates of limited sampling biases in different information
       measures", Network 7, 1996, equation 14.

    Examples
    --------
    >>> words = ["the", "cat", "the", "dog"]
    >>> tags = ["D", "N", "D", "N"]
    >>> round(discrete_mutual_information(words, tags, correction="plug_in", unit="bits"), 6)
    1.0
    >>> round(discrete_mutual_information([[2, 0, 0], [0, 1, 1]], correction="plug_in", unit="bits"), 6)
    1.0
    """
    scale = per_nat(unit)
    if y is None:
        rows, columns, joint = _table(x)
    else:
        a, b = as_codes("x", x), as_codes("y", y)
        check_lengths(x=a, y=b)
        rows, columns, joint = pair_counts(a, b)
    value, doubt = _from_counts(rows, columns, joint, correction)
    if doubt:
        warnings.warn(doubt, EstimateWarning, stacklevel=2)
    return value * scale


def _table(x: Any) -> tuple[IntArray, IntArray, IntArray]:
    table = as_array("x", x)
    if table.ndim != 2:
        raise ShapeError(f"x: found shape {table.shape} and no y; give labels y, or a table of counts with two axes")
    if table.dtype.kind not in "iuf" or not np.isfinite(table).all() or (table != np.floor(table)).any():
        raise DomainError(f"x: a table without y holds whole counts, found dtype {table.dtype}; give labels y as well?")
    if table.sum(dtype=np.float64) >= MOST:
        raise DomainError(f"x: the counts sum to {table.sum(dtype=np.float64):.3g}, wanted less than {MOST:.3g}")
    if (table < 0).any():
        row, column = (int(i) for i in np.argwhere(table < 0)[0])
        raise DomainError(f"x: count ({row}, {column}) is {table[row, column]}; counts cannot be negative")
    counts = table.astype(np.int64)
    if counts.sum() == 0:
        raise ShapeError(f"x: the table of shape {counts.shape} holds no sample")
    rows, columns, joint = counts.sum(axis=1), counts.sum(axis=0), counts.ravel()
    return rows[rows > 0], columns[columns > 0], joint[joint > 0]


def _from_counts(rows: IntArray, columns: IntArray, joint: IntArray, correction: str) -> tuple[float, str]:
    """Information in nats from the counts of the values that occur, and what speaks against it."""
    if correction not in get_args(Correction):
        raise ArgumentError(f"correction: found {correction!r}, wanted one of {', '.join(get_args(Correction))}")
    if len(rows) == 1 or len(columns) == 1:
        return 0.0, ""
    with warnings.catch_warnings():  # the warning below says it for the three at once
        warnings.simplefilter("ignore", EstimateWarning)
        of_x, of_y, of_both = (float(estimate_entropy(c, method=correction)) for c in (rows, columns, joint))  # type: ignore[arg-type]
    n, once = int(joint.sum()), int((joint == 1).sum())
    doubt = ""
    if 2 * once > n:
        doubt = (
            f"{once} of {n} samples are of pairs that occur once: such an estimate shows the number of samples, "
            f"at most log({n}) = {math.log(n):.3g} nats; give more samples, or merge values"
        )
    return of_x + of_y - of_both, doubt


def binned_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    bins: Bins = 10,
    strategy: Literal["width", "quantile"] = "width",
    correction: Correction = "miller_madow",
    unit: Unit = "nats",
) -> float:
    r"""Mutual information of the bins that samples of two variables fall into.

    It is the information of the binned variables, which no correction makes that of the variables themselves: at most
    the logarithm of the number of bins, and with many columns the logarithm of the number of samples whatever the
    truth. So it is refused when there are more cells than half the samples.

    Parameters
    ----------
    x, y : array_like, shape (n,) or (n, d)
        Samples; row i of both was observed together. Constant columns are left out: they carry no information.
    bins : int, or pair for x and y
        How many for each column, or in a pair also increasing edges, used for each column of the variable.
    strategy : {"width", "quantile"}
        Bins of equal width between the least and the largest sample of a column, or of equal numbers of samples
        (edges at quantiles, fewer bins where quantiles are equal).
    correction : str
        As in :func:`discrete_mutual_information`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or x and y have different numbers of them.
    DomainError
        If a number is not finite or outside the edges, or there are more cells than half the samples.
    ArgumentError
        If bins are fewer than two, edges do not increase, or an option does not exist.

    Warns
    -----
    EstimateWarning
        If x or y is constant (the estimate is 0), or more than half of the samples are alone in their cell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(size=10_000)
    >>> abs(binned_mutual_information(x, (x + rng.integers(0, 2, 10_000) / 2) % 1, bins=(2, 2))) < 0.01
    True
    """
    scale = per_nat(unit)
    if strategy not in ("width", "quantile"):
        raise ArgumentError(f"strategy: found {strategy!r}, wanted 'width' or 'quantile'")
    x, y = (without_constants(z) for z in read_together(x=x, y=y))
    of_x, of_y = bins if isinstance(bins, tuple) and len(bins) == 2 else (bins, bins)
    edges_x, edges_y = _edges("x", x, of_x, strategy), _edges("y", y, of_y, strategy)
    if say_constant(x=x, y=y):
        return 0.0
    cells_x, cells_y = (math.prod(len(edges) - 1 for edges in each) for each in (edges_x, edges_y))
    if 2 * cells_x * cells_y > len(x):
        raise DomainError(
            f"found {cells_x} x {cells_y} = {cells_x * cells_y} cells and {len(x)} samples: with more cells than half "
            "the samples the estimate shows the number of samples, not the information; take fewer bins, or "
            "ksg_mutual_information or gaussian_copula_mutual_information, which need none"
        )
    value, doubt = _from_counts(
        *pair_counts(_cells("x", x, edges_x), _cells("y", y, edges_y)), correction
    )  # fmt: skip
    if doubt:
        warnings.warn(doubt, EstimateWarning, stacklevel=2)
    return value * scale


def _edges(name: str, x: FloatArray, bins: Any, strategy: str) -> list[FloatArray]:
    """For each column the increasing edges of its bins."""
    if np.ndim(bins) > 0:
        edges = as_float_array(f"bins of {name}", bins)
        if edges.ndim != 1 or len(edges) < 3 or (np.diff(edges) <= 0).any():
            raise ArgumentError(f"bins: found {bins!r} for {name}, wanted a number, or three or more increasing edges")
        return [edges] * x.shape[1]
    count = check_count("bins", bins, 2)
    if count > len(x):
        raise DomainError(f"bins: found {count} for {name} and {len(x)} samples; take fewer bins than half the samples")
    if strategy == "quantile":
        return [np.unique(np.quantile(column, np.linspace(0, 1, count + 1))) for column in x.T]
    return [_equal_widths(column, count) for column in x.T]


def _equal_widths(column: FloatArray, count: int) -> FloatArray:
    """Edges from the least to the largest number, which are edges themselves whatever the rounding."""
    share = np.linspace(0, 1, count + 1)
    edges = column.min() * (1 - share) + column.max() * share
    edges[0], edges[-1] = column.min(), column.max()
    return np.asarray(np.unique(edges))


def _cells(name: str, x: FloatArray, edges: list[FloatArray]) -> IntArray:
    """(n,) number of the cell each sample falls into; the last bin holds its upper edge."""
    cell = np.zeros(len(x), dtype=np.int64)
    for c, (column, marks) in enumerate(zip(x.T, edges, strict=True)):
        low, high = float(column.min()), float(column.max())
        if low < marks[0] or high > marks[-1]:
            raise DomainError(
                f"{name}: column {c} goes from {low:.6g} to {high:.6g}, beyond the edges {marks[0]:.6g} to "
                f"{marks[-1]:.6g}; give edges around all samples"
            )
        place = np.searchsorted(marks, column, side="right") - 1
        cell = cell * (len(marks) - 1) + np.minimum(place, len(marks) - 2)
    return cell
