"""What an affinity owes to where words stand in a text: taken out of it where it can be, and reported."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray
from infogeo.errors import ConvergenceError

TOTALS_TOLERANCE = 1e-9
"""Relative error of row and column totals at which uniform attention counts as fitted to them."""

MAX_SWEEPS = 10_000
"""Most rounds of fitting rows and columns; captured attention takes some tens."""


def relative_to_totals(values: FloatArray, uniform: FloatArray) -> FloatArray:
    r"""Values over uniform ones whose rows and columns are scaled to the totals of the values; zero on the diagonal.

    .. math:: \frac{v_{ij}}{\alpha_i u_{ij} \beta_j}, \qquad
              \sum_j \alpha_i u_{ij} \beta_j = \sum_j v_{ij}, \quad \sum_i \alpha_i u_{ij} \beta_j = \sum_i v_{ij}

    over the pairs of different words with :math:`v_{ij} > 0`. Factors exist on these pairs, since the values have the
    totals themselves; they are found by scaling rows and columns in turn.

    Parameters
    ----------
    values, uniform : ndarray, shape (n, n)
        Non-negative.

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ConvergenceError
        If the totals are not met after many rounds; its ``result`` is what was reached.

    Examples
    --------
    Values that are uniform ones with other totals carry nothing beyond position.

    >>> uniform = np.tri(4)
    >>> relative_to_totals(uniform * np.outer([1, 2, 3, 4], [4, 1, 1, 2]), uniform).round(6)
    array([[0., 0., 0., 0.],
           [1., 0., 0., 0.],
           [1., 1., 0., 0.],
           [1., 1., 1., 0.]])
    """
    there = (values > 0) & (uniform > 0) & ~np.eye(len(values), dtype=bool)
    wanted, fitted = np.where(there, values, 0.0), np.where(there, uniform, 0.0)
    error = 0.0
    for _ in range(MAX_SWEEPS):
        for axis in (0, 1):
            fitted = fitted * quotient(wanted.sum(axis, keepdims=True), fitted.sum(axis, keepdims=True))
        error = float(np.abs(quotient(fitted.sum(0), wanted.sum(0)) - (wanted.sum(0) > 0)).max(initial=0.0))
        if error <= TOTALS_TOLERANCE:
            return quotient(wanted, fitted)
    raise ConvergenceError(
        f"uniform attention could not be scaled to the totals of each word: after {MAX_SWEEPS} rounds a total is off "
        f"by {error:.2g} of it, wanted {TOTALS_TOLERANCE:g}; some weights are nearly zero, so use "
        "relative_to_uniform=False",
        quotient(wanted, fitted),
    )


def quotient(a: FloatArray, b: FloatArray) -> FloatArray:
    """The quotient a / b, and zero where b is zero."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def position_correlations(values: FloatArray) -> Mapping[str, float | None]:
    """Rank correlations of an affinity with where its words stand in the text, over all pairs of words.

    Parameters
    ----------
    values : ndarray, shape (n, n)
        Affinities; the mean of both directions is looked at.

    Returns
    -------
    dict
        Spearman's coefficient with the distance :math:`|i - j|` of the words, and with the position of the earlier
        one, :math:`min(i, j)`; None where it is not defined, with fewer than three words or equal values.

    Examples
    --------
    >>> position_correlations(np.asarray([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [2.0, 1.0, 0.0]]))
    {'rank_correlation_with_distance': 0.0, 'rank_correlation_with_position': -0.866}
    """
    from scipy.stats import rankdata

    first, second = np.triu_indices(len(values), 1)
    ranks = rankdata((values[first, second] + values[second, first]) / 2)

    def with_ranks(x: NDArray[np.int64]) -> float | None:
        other = rankdata(x)
        if len(x) < 2 or np.ptp(ranks) == 0 or np.ptp(other) == 0:
            return None
        return round(float(np.corrcoef(ranks, other)[0, 1]), 4)

    return {
        "rank_correlation_with_distance": with_ranks(second - first),
        "rank_correlation_with_position": with_ranks(first),
    }
