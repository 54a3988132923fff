r"""From influence to evidence that two words are related: what is more than usual so far apart, and how far is usual.

Influence between two words depends on how far apart they stand more than on anything else: neighbors move each other
most, related or not. Of one measurement r let :math:`a^r_{ij}` be the influence of word j on word i, over its mean in
row i, and let :math:`\mu^r_k, \sigma^r_k` be mean and deviation of its logarithm at k words apart, in sentences without
any labels (:class:`~infogeo.DistanceProfile`). Then

.. math::
    z^r_{ij} = \frac{\log a^r_{ij} - \mu^r_{|i - j|}}{\sigma^r_{|i - j|}}, \qquad
    e_{ij} = \frac{1}{R} \sum_r (z^r_{ij} + z^r_{ji}) - \lambda \log |i - j| .

The first term says by how many deviations the two move each other more than words usually do at their distance; the
second is the logarithm of a prior, a power law :math:`|i - j|^{-\lambda}`, that nearer words are more often related.
The sum orders pairs as the logarithm of posterior odds would if the z of related pairs were normal with a mean above
zero. The tree of most evidence is the maximum spanning tree of e.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_number
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.influence import DistanceProfile, row_shares

PRIOR_EXPONENT = 1.5
"""Default of the exponent of the prior by distance; chosen on the first half of a treebank of English."""


def row_ratios(values: ArrayLike) -> FloatArray:
    r"""Influence over the mean of the other influences on the same word, :math:`a_{ij} (n - 1) / \sum_k a_{ik}`.

    The row shares times n - 1, so that texts of different lengths can stand side by side: one is what an average word
    does.

    Parameters
    ----------
    values : array_like, shape (..., n, n)
        Influence, not negative; the diagonal is zero.

    Returns
    -------
    array, shape (..., n, n)
        A row of zeros stays zero.

    Raises
    ------
    ShapeError
        If it is no square matrix.
    DomainError
        If a value is negative or not finite, or the diagonal is not zero.

    Examples
    --------
    >>> row_ratios([[0.0, 1.0, 3.0], [2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]).tolist()
    [[0.0, 0.5, 1.5], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    shares = row_shares(values)
    return np.asarray(shares * (shares.shape[-1] - 1))


def standardized_influence(values: ArrayLike, profile: DistanceProfile) -> FloatArray:
    r"""By how many deviations words move each other more than is usual so far apart, both directions together.

    Parameters
    ----------
    values : array_like, shape (R, n, n)
        Influence, as it was measured.
    profile : DistanceProfile
        Of :func:`row_ratios` of the same R measurements in other sentences.

    Returns
    -------
    array, shape (R, n, n)
        :math:`z_{ij} + z_{ji}`, symmetric; the diagonal is zero. Where there is no influence at all, z is taken as the
        least that the text has, since nothing says that the pair is further than that.

    Raises
    ------
    ShapeError
        If the measurements are not those of the profile.
    DomainError
        As :func:`row_ratios`.

    Examples
    --------
    >>> from infogeo import DistanceProfile
    >>> flat = DistanceProfile(mean=[[0.0]], deviation=[[1.0]], counts=[[9]])
    >>> standardized_influence([[[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]], flat).tolist()
    [[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]
    """
    z = profile.standardized(row_ratios(values))
    n = z.shape[-1]
    beside = ~np.eye(n, dtype=np.bool_)
    known = np.isfinite(z) & beside
    least = np.where(known, z, np.inf).min(axis=(-2, -1), initial=np.inf)
    least = np.where(np.isfinite(least), least, 0.0)  # nothing moves anything: all pairs are alike
    z = np.where(known, z, least[:, None, None]) * beside
    return np.asarray(z + np.swapaxes(z, -1, -2))


def relation_evidence(standardized: ArrayLike, *, prior_exponent: float = PRIOR_EXPONENT) -> FloatArray:
    r"""Evidence that words are related: mean of the standardized influences less a prior by distance.

    .. math:: e_{ij} = \frac{1}{R} \sum_r s^r_{ij} - \lambda \log |i - j|

    Parameters
    ----------
    standardized : array_like, shape (R, n, n)
        Symmetric, from :func:`standardized_influence`; of one measurement or of several, which count the same.
    prior_exponent : float
        :math:`\lambda \ge 0`; zero is no prior.

    Returns
    -------
    array, shape (n, n)
        Symmetric, on a scale of deviations; larger for words that are more likely related. The diagonal is zero and
        means nothing.

    Raises
    ------
    ShapeError
        If the shape is another.
    ArgumentError
        If the exponent is negative or not finite.
    DomainError
        If the values are not symmetric.

    Examples
    --------
    >>> relation_evidence([[[0.0, 2.0, 3.0], [2.0, 0.0, 1.0], [3.0, 1.0, 0.0]]], prior_exponent=1.0).round(3).tolist()
    [[0.0, 2.0, 2.307], [2.0, 0.0, 1.0], [2.307, 1.0, 0.0]]
    """
    s = as_float_array("standardized", standardized)
    if s.ndim != 3 or s.shape[1] != s.shape[2] or not len(s):
        raise ShapeError(f"standardized: found shape {s.shape}, wanted (R, n, n) with R of at least 1")
    exponent = check_exponent(prior_exponent)
    if not np.allclose(s, np.swapaxes(s, 1, 2), rtol=1e-9, atol=1e-9):
        raise DomainError("standardized: found values that are not symmetric; use standardized_influence")
    return np.asarray(s.mean(axis=0) - exponent * log_offsets(s.shape[-1]))


def check_exponent(value: float) -> float:
    """The exponent of a prior by distance, or an ArgumentError if it is negative or not finite."""
    exponent = check_number("prior_exponent", value)
    if not 0 <= exponent < np.inf:
        raise ArgumentError(f"prior_exponent: found {exponent}, wanted a finite number of at least 0")
    return exponent


def log_offsets(n: int) -> FloatArray:
    """Logarithms of how many words further each of n words stands from each other, (n, n); zero on the diagonal."""
    offsets = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.asarray(np.log(np.maximum(offsets, 1)))
