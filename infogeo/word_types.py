"""Normal distributions of word types from the vectors of their occurrences: one covariance, diagonal, or full.

All take vectors (N, d) of occurrences and the word (N,) that each belongs to, numbered from 0 without gaps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_float_array, as_int_array, check_count, check_shape
from infogeo.background import ShrinkageRule, check_intensity, ledoit_wolf
from infogeo.errors import ArgumentError, DomainError
from infogeo.families import DiagonalGaussian, Gaussian, SharedCovarianceGaussian


def means_of_words(vectors: ArrayLike, members: ArrayLike) -> FloatArray:
    """Mean vector (W, d) of each word's occurrences.

    Parameters
    ----------
    vectors : array, shape (N, d)
    members : array of int, shape (N,)
        The word of each occurrence, from 0 to W - 1, each there at least once.

    Returns
    -------
    array, shape (W, d)

    Raises
    ------
    ShapeError
        If there is not one word for each vector.
    DomainError
        If a number between 0 and the largest is no word of any occurrence.

    Examples
    --------
    >>> means_of_words([[0.0], [2.0], [5.0]], [0, 0, 1]).tolist()
    [[1.0], [5.0]]
    """
    values, words, counts = _given(vectors, members)
    return _means(values, words, counts)


def shared_normals(
    vectors: ArrayLike, members: ArrayLike, *, shrinkage: float | ShrinkageRule = ledoit_wolf
) -> SharedCovarianceGaussian:
    r"""Normals around the mean of each word, with the one covariance of occurrences around their word's mean.

    :math:`S = \sum_i (x_i - \bar x_{w(i)})(x_i - \bar x_{w(i)})^\top / (N - W)`, drawn toward a multiple of the
    identity as a :class:`~infogeo.Background` does it: the covariance of linear discriminant analysis [1]_.

    Parameters
    ----------
    vectors : array, shape (N, d)
    members : array of int, shape (N,)
    shrinkage : float or function
        Intensity from 0 to 1, or a rule such as :func:`~infogeo.ledoit_wolf`.

    Returns
    -------
    SharedCovarianceGaussian
        A batch of shape (W,).

    Raises
    ------
    DomainError
        If no word occurs twice, or all occurrences of each word have one vector, or the covariance is singular and not
        shrunk.

    References
    ----------
    .. [1] R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7 (1936) 179-188.

    Examples
    --------
    >>> normals = shared_normals([[0.0], [2.0], [5.0], [7.0]], [0, 0, 1, 1], shrinkage=0.0)
    >>> normals.mean.tolist(), normals.cov.tolist()
    ([[1.0], [6.0]], [[2.0]])
    """
    values, words, counts = _given(vectors, members)
    means = _means(values, words, counts)
    return SharedCovarianceGaussian(means, _within(values - means[words], counts, shrinkage))


def diagonal_normals(vectors: ArrayLike, members: ArrayLike, *, shrinkage: float = 0.5) -> DiagonalGaussian:
    r"""A normal with independent coordinates for each word, as :func:`~infogeo.occurrence_normals` makes it.

    Variances :math:`(1 - \lambda) s_w^2 + \lambda s^2_\mathrm{pooled}`, both unbiased.

    Parameters
    ----------
    vectors : array, shape (N, d)
    members : array of int, shape (N,)
        Each word at least twice.
    shrinkage : float
        From 0 to 1.

    Returns
    -------
    DiagonalGaussian
        A batch of shape (W,).

    Raises
    ------
    DomainError
        If a word occurs once, or a variance is zero.

    Examples
    --------
    >>> normals = diagonal_normals([[0.0], [2.0], [5.0], [5.0]], [0, 0, 1, 1])
    >>> normals.var.tolist()
    [[1.5], [0.5]]
    """
    values, words, counts = _given(vectors, members, least=2)
    _check_shrinkage(shrinkage)
    means = _means(values, words, counts)
    scatter = np.zeros_like(means)
    np.add.at(scatter, words, (values - means[words]) ** 2)
    own = scatter / (counts - 1)[:, None]
    pooled = scatter.sum(axis=0) / (counts - 1).sum()
    return DiagonalGaussian(means, (1 - shrinkage) * own + shrinkage * pooled)


def full_normals(
    vectors: ArrayLike, members: ArrayLike, *, directions: int = 4, shrinkage: float = 0.5,
    within: float | ShrinkageRule = ledoit_wolf,
) -> Gaussian:
    r"""A normal with a covariance of its own for each word, in the directions in which words differ most.

    A full covariance needs more occurrences than coordinates. The coordinates kept are the k linear discriminants:
    those directions in which the means of the words vary most relative to the variation of occurrences around them.
    Choosing them, like the Fisher-Rao distance, does not depend on the coordinates of the model (but for shrinkage). In
    them word w has the mean of its occurrences and the covariance :math:`(1 - \lambda) S_w + \lambda
    S_\mathrm{pooled}`, both unbiased.

    Parameters
    ----------
    vectors : array, shape (N, d)
    members : array of int, shape (N,)
        Each word at least twice, more than k words.
    directions : int
        The number k of directions, at most d.
    shrinkage : float
        The intensity :math:`\lambda` from 0 to 1, the same for all words.
    within : float or function
        How far the covariance of occurrences around the means, in all d coordinates, is shrunk before the directions
        are found, as in :func:`shared_normals`.

    Returns
    -------
    Gaussian
        A batch of shape (W,) in k coordinates.

    Raises
    ------
    ArgumentError
        If the number of directions is not between 1 and d, or not below the number of words.
    DomainError
        If a word occurs once, or a covariance is singular.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> vectors = rng.normal(size=(60, 5)) + 9.0 * np.repeat(np.eye(3, 5), 20, axis=0)
    >>> normals = full_normals(vectors, np.repeat([0, 1, 2], 20), directions=2)
    >>> normals.mean.shape, normals.cov.shape
    ((3, 2), (3, 2, 2))
    """
    values, words, counts = _given(vectors, members, least=2)
    _check_shrinkage(shrinkage)
    k = check_count("directions", directions, 1)
    if k > values.shape[1] or k >= len(counts):
        raise ArgumentError(
            f"directions: found {k}, wanted at most {values.shape[1]}, the number of coordinates, and fewer than "
            f"{len(counts)}, the number of words"
        )
    means = _means(values, words, counts)
    chosen = _discriminants(means, _within(values - means[words], counts, within), k)
    means, apart = means @ chosen, (values - means[words]) @ chosen
    scatter = np.zeros((len(counts), k, k))
    np.add.at(scatter, words, apart[:, :, None] * apart[:, None, :])
    own = scatter / (counts - 1)[:, None, None]
    pooled = scatter.sum(axis=0) / (counts - 1).sum()
    return Gaussian(means, (1 - shrinkage) * own + shrinkage * pooled)


def _given(vectors: ArrayLike, members: ArrayLike, *, least: int = 1) -> tuple[FloatArray, IntArray, IntArray]:
    values, words = as_float_array("vectors", vectors), as_int_array("members", members)
    check_shape("vectors", values, (None, None))
    check_shape("members", words, (len(values),))
    if not len(words) or words.min() < 0:
        raise DomainError("members: wanted the numbers of words from 0, at least one occurrence")
    counts = np.bincount(words)
    if (counts < least).any():
        few = int(np.argmax(counts < least))
        raise DomainError(
            f"members: word {few} occurs {counts[few]} times, wanted at least {least}; leave rarer words out"
        )
    return values, words, counts.astype(np.int64)


def _check_shrinkage(shrinkage: float) -> None:
    if not 0 <= check_intensity(shrinkage) <= 1:
        raise ArgumentError(f"shrinkage: found {shrinkage}, wanted a number from 0 to 1")


def _means(values: FloatArray, words: IntArray, counts: IntArray) -> FloatArray:
    sums = np.zeros((len(counts), values.shape[1]))
    np.add.at(sums, words, values)
    return np.asarray(sums / counts[:, None])


def _within(apart: FloatArray, counts: IntArray, shrinkage: float | ShrinkageRule) -> FloatArray:
    """Covariance (d, d) of vectors around the means of their words, shrunk."""
    n, d = apart.shape
    freedom = int((counts - 1).sum())
    if freedom == 0:
        raise DomainError("members: every word occurs once, so no covariance within words can be estimated")
    covariance = apart.T @ apart / n
    mean_variance = float(np.trace(covariance)) / d
    if mean_variance <= 0:
        raise DomainError("vectors: all occurrences of each word have the same vector; choose another layer")
    if callable(shrinkage):
        fourth = float((np.einsum("nd,nd->n", apart, apart) ** 2).mean())
        intensity = float(shrinkage(covariance, n=n, fourth_moment=fourth))
    else:
        intensity = check_intensity(shrinkage)
    if not 0 <= intensity <= 1:
        raise DomainError(f"shrinkage: found intensity {intensity}, wanted a number from 0 to 1")
    shrunk = (1 - intensity) * covariance + intensity * mean_variance * np.eye(d)
    return np.asarray(shrunk * (n / freedom))


def _discriminants(means: FloatArray, within: FloatArray, k: int) -> FloatArray:
    """(d, k) directions of the largest variance of the means, in units of the covariance within words."""
    try:
        factor = np.linalg.cholesky(within)
    except np.linalg.LinAlgError as error:
        raise DomainError("vectors: the covariance within words is singular; shrink it more") from error
    whitened = np.linalg.solve(factor, (means - means.mean(axis=0)).T).T
    _, _, rows = np.linalg.svd(whitened, full_matrices=False)
    return np.asarray(np.linalg.solve(factor.T, rows[:k].T))
