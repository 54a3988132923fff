"""How many directions a set of vectors fills, and how evenly: spectrum metrics of representations, on one footing.

All take matrices (..., n, d), one row for each sample, in any number of leading axes (layers, heads, texts), as NumPy
arrays or as torch tensors, which keep their gradients. None changes when the rows are permuted or rotated together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo._arrays import Array, cholesky, detached, namespace, solve_triangular
from infogeo._checks import as_floats
from infogeo._spectra import (
    EPSILON,
    centered,
    entr,
    identity,
    matrices,
    positive_number,
    renyi_of_eigenvalues,
    renyi_of_weights,
    scaled,
    small_gram,
    trace,
    unit_rows,
)
from infogeo.errors import DomainError, ShapeError


def effective_rank(x: Any) -> Array:
    r"""Exponential of the entropy of the singular values: how many directions are in use.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \frac{\sigma_k}{\sum_j \sigma_j}

    Between 1 and min(n, d), reached by a matrix whose singular values are all alike [1]_. Not centered: a large mean
    counts as a direction of its own; subtract it first if it should not. Unchanged when ``x`` is scaled.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        One row for each sample. A single row has effective rank 1.

    Returns
    -------
    float, array or tensor, shape (...,)
        With gradients where ``x`` records them.

    Raises
    ------
    ShapeError
        If there is no row or column.
    DomainError
        If an entry is not finite, or a matrix is zero.

    References
    ----------
    .. [1] O. Roy, M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007,
       definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(effective_rank(np.eye(5))), 12)
    5.0
    >>> round(float(effective_rank([[1.0, 0.0], [0.0, 0.25]])), 6)
    1.649385
    """
    values = _singular_values(x)
    return namespace(values).exp(renyi_of_weights(values, 1.0))


def rankme(x: Any, *, epsilon: float = 1e-7) -> Array:
    r"""RankMe, the effective rank as published for embeddings.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \frac{\sigma_k}{\|\sigma\|_1} + \epsilon

    The small number is added after the division and not taken out again, as published [1]_: the weights sum to a
    little more than one. Without it the number is :func:`effective_rank`. Not centered; unchanged when ``x`` is scaled.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        Embeddings, one row for each sample.
    epsilon : float
        Not negative; 1e-7 as published.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there is no row or column.
    DomainError
        If an entry is not finite, or a matrix is zero.
    ArgumentError
        If ``epsilon`` is negative or not finite.

    References
    ----------
    .. [1] Q. Garrido, R. Balestriero, L. Najman, Y. LeCun, "RankMe: assessing the downstream performance of pretrained
       self-supervised representations by their rank", ICML 2023, arXiv:2210.02885, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(rankme(np.diag([1.0, 1.0, 0.0]))), 5)
    2.0
    """
    small = positive_number("epsilon", epsilon, zero=True)
    values = _singular_values(x)
    xp = namespace(values)
    p = values / xp.sum(values, axis=-1, keepdims=True) + small
    return xp.exp(xp.sum(entr(p), axis=-1))


def participation_ratio(x: Any) -> Array:
    r"""Participation ratio of the covariance: the number of principal components that share the variance.

    .. math:: \frac{(\sum_k \lambda_k)^2}{\sum_k \lambda_k^2}, \qquad \lambda = \mathrm{eigenvalues}(\mathrm{Cov}\,x)

    Between 1 and min(n - 1, d). It is the exponential of the entropy of order 2 of the variances. Centered: the mean
    row is taken off; unchanged when ``x`` is scaled or moved [1]_.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        At least two rows, not all equal.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two rows, or no column.
    DomainError
        If an entry is not finite, or all rows of a matrix are equal.

    References
    ----------
    .. [1] P. Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", bioRxiv 214262, 2017.

    Examples
    --------
    >>> round(float(participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
    2.0
    """
    gram = small_gram(centered("x", matrices("x", x, rows=2)))
    return trace(gram) ** 2 / namespace(gram).sum(gram * gram, axis=(-2, -1))


def stable_rank(x: Any) -> Array:
    r"""Squared Frobenius norm over squared spectral norm.

    .. math:: \frac{\|X\|_F^2}{\sigma_{\max}^2}

    Between 1 and the rank; of data, and of weight matrices [1]_. Not centered; unchanged when ``x`` is scaled.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        Any matrices.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there is no row or column.
    DomainError
        If an entry is not finite, or a matrix is zero.

    References
    ----------
    .. [1] M. Rudelson, R. Vershynin, "Sampling from large matrices: an approach through geometric functional analysis",
       Journal of the ACM 54(4), 2007 (there called numerical rank).

    Examples
    --------
    >>> float(stable_rank([[2.0, 0.0], [0.0, 1.0]]))
    1.25
    """
    gram = small_gram(scaled("x", matrices("x", x)))
    return trace(gram) / namespace(gram).linalg.eigvalsh(gram)[..., -1]


def top_component_share(x: Any) -> Array:
    r"""Share of the variance along the first principal component, :math:`\lambda_1 / \sum_k \lambda_k`.

    Between 1 / min(n - 1, d) and 1. Centered; unchanged when ``x`` is scaled or moved. Its inverse is the
    :func:`stable_rank` of the centered rows.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        At least two rows, not all equal.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two rows, or no column.
    DomainError
        If an entry is not finite, or all rows of a matrix are equal.

    Examples
    --------
    >>> round(float(top_component_share([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
    0.8
    """
    gram = small_gram(centered("x", matrices("x", x, rows=2)))
    return namespace(gram).linalg.eigvalsh(gram)[..., -1] / trace(gram)


def anisotropy(x: Any) -> Array:
    r"""Mean cosine of all pairs of rows.

    .. math:: \frac{1}{n (n - 1)} \sum_{i \neq j} \frac{\langle x_i, x_j \rangle}{\|x_i\| \, \|x_j\|}

    Between -1 / (n - 1) and 1; near 0 where directions are spread evenly, large where all vectors lie in a narrow cone
    [1]_. Not centered, since the cone is the finding; unchanged when ``x``, or any single row, is scaled. Order n d:
    no matrix of cosines is formed.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        At least two rows, none of them zero.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two rows, or no column.
    DomainError
        If an entry is not finite, or a row is zero.

    References
    ----------
    .. [1] K. Ethayarajh, "How contextual are contextualized word representations?", EMNLP 2019, section 3.4.

    Examples
    --------
    >>> round(float(anisotropy([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])), 6)
    0.471405
    """
    rows = unit_rows("x", scaled("x", matrices("x", x, rows=2)), reason="is zero")
    xp, n = namespace(rows), rows.shape[-2]
    whole = xp.sum(rows, axis=-2)
    return (xp.sum(whole * whole, axis=-1) - n) / (n * (n - 1))


def lidar(x: Any, *, delta: float = 1e-4) -> Array:
    r"""LiDAR: effective rank of what tells objects apart, once the spread within objects is made white.

    .. math::

        \Sigma_b = \frac{1}{n} \sum_i (\mu_i - \mu)(\mu_i - \mu)^\top, \quad
        \Sigma_w = \frac{1}{n q} \sum_{i, j} (x_{ij} - \mu_i)(x_{ij} - \mu_i)^\top + \delta I, \quad
        \exp H\Big(\frac{\lambda}{\sum_k \lambda_k}\Big)

    with the eigenvalues of :math:`\Sigma_w^{-1/2} \Sigma_b \Sigma_w^{-1/2}` [1]_. Between 1 and min(n - 1, d).
    Centered. It changes when ``x`` is scaled, since ``delta`` does not scale with it; unchanged when ``x`` is moved.
    As published, a small number is added to the weights, against the logarithm of zero; here zero weights are left out.

    Parameters
    ----------
    x : array or tensor, shape (..., n, q, d)
        q views (augmentations, templates, contexts) of each of n objects; at least two of each.
    delta : float
        Ridge of the covariance within objects, positive.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two objects or views, or no column.
    DomainError
        If an entry is not finite, all objects have one mean, or ``delta`` is lost beside the spread within objects.
    ArgumentError
        If ``delta`` is not positive.

    References
    ----------
    .. [1] V. Thilak et al., "LiDAR: sensing linear probing performance in joint embedding SSL architectures",
       ICLR 2024, arXiv:2312.04000, equations 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> objects = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    >>> views = objects[:, None, :] + np.array([[0.1, 0.1], [-0.1, -0.1], [0.1, -0.1], [-0.1, 0.1]])
    >>> round(float(lidar(views)), 9)
    2.0
    """
    ridge = positive_number("delta", delta)
    views = as_floats("x", x)
    if views.ndim < 3 or 0 in views.shape or views.shape[-3] < 2 or views.shape[-2] < 2:
        raise ShapeError(
            f"x: found shape {tuple(views.shape)}, wanted (..., n, q, d) with at least two objects and two views "
            "of each"
        )
    xp = namespace(views)
    means = xp.mean(views, axis=-2, keepdims=True)
    within = xp.reshape(views - means, (*views.shape[:-3], -1, views.shape[-1]))
    between = centered("means of the objects", means[..., 0, :])  # its scale does not matter
    with np.errstate(over="ignore", invalid="ignore"):
        spread = xp.matrix_transpose(within) @ within / within.shape[-2]
        spread = spread + ridge * identity(spread)
    factor = cholesky(spread) if xp.isfinite(detached(spread)).all() else None
    if factor is None or _lost(detached(factor), detached(spread)):
        raise DomainError(
            f"x: beside the spread within objects delta = {ridge:g} is lost in rounding, or the squares leave the "
            "range of float64; scale x down, or raise delta"
        )
    white = solve_triangular(factor, xp.matrix_transpose(between))
    return xp.exp(renyi_of_eigenvalues(xp.linalg.eigvalsh(small_gram(white)), 1.0))


def _lost(factor: Array, matrix: Array) -> bool:
    """Whether the weakest direction of a matrix has fewer than four digits, seen from its triangular factor."""
    xp = namespace(matrix)
    weakest = xp.min(xp.linalg.diagonal(factor), axis=-1) ** 2
    return bool((weakest < 1e4 * EPSILON * xp.max(xp.linalg.diagonal(matrix), axis=-1)).any())


def _singular_values(x: Any) -> Array:
    """Singular values (..., min(n, d)); not by eigenvalues of a Gram matrix, which would lose half of the digits."""
    small = scaled("x", matrices("x", x))
    return namespace(small).linalg.svdvals(small)
