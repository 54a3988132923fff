"""Rényi entropies of Gram matrices: of one variable, of several together, and the information they share.

The eigenvalues of a Gram matrix that is scaled to trace one are taken as probabilities. No density is estimated; the
kernel, and its width, are part of the number.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from infogeo._arrays import Array, cholesky, detached, namespace, to_numpy
from infogeo._checks import check_broadcast, input_tolerance, together
from infogeo._spectra import (
    check_order,
    collision_entropy,
    first_bad,
    identity,
    matrices,
    positive_number,
    renyi_of_eigenvalues,
    trace,
    which_matrix,
)
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError


def linear_gram(x: Any) -> Array:
    r"""Gram matrix of inner products.

    .. math:: K_{ij} = \langle x_i, x_j \rangle

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        One row for each sample.

    Returns
    -------
    array or tensor, shape (..., n, n)
        With gradients where ``x`` records them.

    Raises
    ------
    ShapeError, DomainError
        If there is no row or column, an entry is not finite, or an inner product is out of the range of float64.

    Examples
    --------
    >>> linear_gram([[1.0, 0.0], [1.0, 1.0]]).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    rows = matrices("x", x)
    xp = namespace(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        products = rows @ xp.matrix_transpose(rows)
    if not xp.isfinite(detached(products)).all():
        raise DomainError("x: inner products leave the range of float64; scale x down")
    return products


def gaussian_gram(x: Any, *, width: float) -> Array:
    r"""Gram matrix of the Gaussian kernel.

    .. math:: K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 w^2}\right)

    The entropy depends on the width: it runs from 0 (all points alike, w large) to log n (all points apart, w small).
    State the width with the number. Distances are found from inner products of the centered rows, so that they are
    right to about 1e-16 of the largest squared distance.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        One row for each sample.
    width : float
        w, in the unit of ``x``; positive. There is no default, since no rule fits all data. n to the power
        -1 / (4 + d), times the standard deviation of the data, is Silverman's rule.

    Returns
    -------
    array or tensor, shape (..., n, n)
        With ones on the diagonal, and with gradients where ``x`` records them.

    Raises
    ------
    ArgumentError
        If the width is not positive and finite.
    ShapeError, DomainError
        If there is no row or column, or an entry is not finite.

    Examples
    --------
    >>> gaussian_gram([[0.0], [2.0]], width=1.0).round(4).tolist()
    [[1.0, 0.1353], [0.1353, 1.0]]
    """
    w = positive_number("width", width)
    rows = matrices("x", x)
    xp = namespace(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = (rows - xp.mean(rows, axis=-2, keepdims=True)) / w
        products = rows @ xp.matrix_transpose(rows)
        squares = xp.linalg.diagonal(products)
        apart = squares[..., :, None] + squares[..., None, :] - 2 * products
    if not xp.isfinite(detached(apart)).all():
        raise DomainError("x: squared distances over squared widths leave the range of float64; choose another width")
    # Rounding below zero, and on the diagonal, is set to zero.
    below = (apart < 0) | (identity(products) > 0)
    return xp.exp(-xp.where(below, xp.zeros_like(apart), apart) / 2)


def matrix_renyi_entropy(gram: Any, *, alpha: float = 1.0, unit: Unit = "nats") -> Array:
    r"""Rényi entropy of Gram matrices, by their eigenvalues.

    .. math::

        S_\alpha(K) = \frac{1}{1 - \alpha} \log \sum_i \lambda_i^\alpha,
        \qquad \lambda = \mathrm{eigenvalues}\left(\frac{K}{\mathrm{tr}\,K}\right)

    At order 1 it is von Neumann's entropy :math:`-\sum_i \lambda_i \log \lambda_i`, at infinity
    :math:`-\log \lambda_{\max}`; it falls as the order rises. Between 0 (rank one) and log n (K a multiple of the
    identity) [1]_. The matrix is divided by its trace whatever its diagonal is, so that its scale does not matter.

    Only eigenvalues are computed, never eigenvectors of a result, so that gradients are finite where eigenvalues
    coincide. At order 2 the Frobenius norm of the matrix takes their place. An eigenvalue below zero, or above it by no
    more than n times 2.2e-16 of the largest, is rounding: it counts as zero, and passes no gradient on.

    Parameters
    ----------
    gram : array or tensor, shape (..., n, n)
        Symmetric and positive semidefinite. Mirror entries may differ, and eigenvalues may lie below zero, by rounding
        only: 1e-9 of the largest entry and of the trace, or 3.8e-6 for float32 and 0.008 for float16.
    alpha : float
        The order, positive; infinity is allowed.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)
        With gradients where ``gram`` records them.

    Raises
    ------
    ShapeError
        If the matrices are not square, or empty.
    DomainError
        If an entry is not finite, a matrix is not symmetric, has a negative eigenvalue, or trace zero.
    ArgumentError
        If the order is not positive, or the unit unknown.

    References
    ----------
    .. [1] L. G. Sanchez Giraldo, M. Rao, J. C. Principe, "Measures of entropy from data using infinitely divisible
       kernels", IEEE Transactions on Information Theory 61(1), 2015, definition of S_alpha.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(matrix_renyi_entropy(np.eye(8), unit="bits")), 12)
    3.0
    >>> round(float(matrix_renyi_entropy(linear_gram([[3.0, 0.0], [0.0, 1.0]]), alpha=2)), 6)
    0.198451
    """
    order, factor = check_order(alpha), per_nat(unit)
    return _entropy("gram", _normalized("gram", gram), order, input_tolerance(gram)) * factor


def matrix_joint_entropy(*grams: Any, alpha: float = 1.0, unit: Unit = "nats") -> Array:
    r"""Rényi entropy of several variables together: of the entrywise product of their Gram matrices.

    .. math:: S_\alpha(K_1, \dots, K_m) = S_\alpha(K_1 \circ \dots \circ K_m)

    The product is the Gram matrix of the product kernel [1]_, scaled to trace one. If each matrix has equal entries
    on its diagonal, the joint entropy is at least that of each variable.

    Parameters
    ----------
    *grams : array or tensor, shape (..., n, n)
        One for each variable, over the same samples in the same order; leading axes broadcast.
    alpha : float
        The order, positive; infinity is allowed.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If the matrices are not square, empty, or of different sizes.
    DomainError
        As :func:`matrix_renyi_entropy`.
    ArgumentError
        If no matrix is given, the order is not positive, or the unit unknown.

    References
    ----------
    .. [1] L. G. Sanchez Giraldo, M. Rao, J. C. Principe, "Measures of entropy from data using infinitely divisible
       kernels", IEEE Transactions on Information Theory 61(1), 2015, joint entropy.

    Examples
    --------
    >>> import numpy as np
    >>> blocks = np.kron(np.eye(2), np.ones((2, 2)))  # samples 0, 1 alike, and 2, 3
    >>> other = np.tile(np.eye(2), (2, 2))  # samples 0, 2 alike, and 1, 3
    >>> round(float(matrix_joint_entropy(blocks, other, unit="bits")), 12)
    2.0
    """
    order, factor = check_order(alpha), per_nat(unit)
    if not grams:
        raise ArgumentError("grams: found none, wanted at least one Gram matrix")
    parts, tolerance = _prepared(grams, [f"gram {i + 1}" for i in range(len(grams))])
    return _entropy("product of the Gram matrices", _product(parts), order, tolerance) * factor


def matrix_conditional_entropy(gram_x: Any, gram_y: Any, *, alpha: float = 1.0, unit: Unit = "nats") -> Array:
    r"""Rényi entropy of one variable given another, :math:`S_\alpha(X \mid Y) = S_\alpha(X, Y) - S_\alpha(Y)`.

    Not negative if both matrices have equal entries on their diagonals, as those of the Gaussian kernel have, or
    linear ones of rows of length one; otherwise it may be.

    Parameters
    ----------
    gram_x, gram_y : array or tensor, shape (..., n, n)
        Gram matrices over the same samples in the same order; leading axes broadcast.
    alpha : float
        The order, positive; infinity is allowed.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError, DomainError, ArgumentError
        As :func:`matrix_joint_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> blocks, other = np.kron(np.eye(2), np.ones((2, 2))), np.tile(np.eye(2), (2, 2))
    >>> round(float(matrix_conditional_entropy(blocks, other, unit="bits")), 12)
    1.0
    """
    order, factor = check_order(alpha), per_nat(unit)
    (x, y), tolerance = _prepared((gram_x, gram_y), ["gram_x", "gram_y"])
    joint = _entropy("gram_x times gram_y", _product([x, y]), order, tolerance)
    return (joint - _entropy("gram_y", y, order, tolerance)) * factor


def matrix_mutual_information(gram_x: Any, gram_y: Any, *, alpha: float = 1.0, unit: Unit = "nats") -> Array:
    r"""Information that two Gram matrices share.

    .. math:: I_\alpha(X; Y) = S_\alpha(X) + S_\alpha(Y) - S_\alpha(X, Y)

    It is a measure of dependence of its own, after the kernel chosen, and no estimate of Shannon's mutual information:
    with a narrow kernel it tends to log n for any two variables [1]_. It is not negative at order one if both diagonals
    are constant; otherwise it can be, and is returned as it comes.

    Parameters
    ----------
    gram_x, gram_y : array or tensor, shape (..., n, n)
        Gram matrices over the same samples in the same order; leading axes broadcast.
    alpha : float
        The order, positive; infinity is allowed.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)
        With gradients where an argument records them.

    Raises
    ------
    ShapeError, DomainError, ArgumentError
        As :func:`matrix_joint_entropy`.

    References
    ----------
    .. [1] L. G. Sanchez Giraldo, M. Rao, J. C. Principe, "Measures of entropy from data using infinitely divisible
       kernels", IEEE Transactions on Information Theory 61(1), 2015, mutual information.

    Examples
    --------
    >>> import numpy as np
    >>> blocks, other = np.kron(np.eye(2), np.ones((2, 2))), np.tile(np.eye(2), (2, 2))
    >>> round(float(matrix_mutual_information(blocks, blocks, unit="bits")), 12)
    1.0
    >>> abs(round(float(matrix_mutual_information(blocks, other, unit="bits")), 12))
    0.0
    """
    order, factor = check_order(alpha), per_nat(unit)
    (x, y), tolerance = _prepared((gram_x, gram_y), ["gram_x", "gram_y"])
    joint = _entropy("gram_x times gram_y", _product([x, y]), order, tolerance)
    apart = _entropy("gram_x", x, order, tolerance) + _entropy("gram_y", y, order, tolerance)
    return (apart - joint) * factor


def _normalized(name: str, value: Any) -> Array:
    """Symmetric matrices of trace one, or an error."""
    gram = matrices(name, value)
    xp, tolerance = namespace(gram), input_tolerance(value)
    if gram.shape[-1] != gram.shape[-2]:
        raise ShapeError(
            f"{name}: found shape {tuple(gram.shape)}, wanted square matrices (..., n, n); make them of samples with "
            "linear_gram or gaussian_gram"
        )
    plain = detached(gram)
    negative = xp.linalg.diagonal(plain) < 0
    if negative.any():
        raise DomainError(f"{name}: diagonal entry {first_bad(negative)} is negative; a Gram matrix has squares there")
    top = xp.max(xp.abs(plain), axis=(-2, -1), keepdims=True)
    nothing = xp.max(xp.linalg.diagonal(plain), axis=-1) == 0
    if nothing.any():
        matrix = which_matrix(name, first_bad(nothing))
        raise DomainError(f"{matrix} has trace zero: all samples are zero, and there is nothing to share out")
    skew = xp.abs(plain - xp.matrix_transpose(plain)) > tolerance * top
    if skew.any():
        where = first_bad(skew)
        raise DomainError(
            f"{name}: entry {where} and its mirror differ by more than {tolerance:.2g} of the largest entry; a Gram "
            "matrix is symmetric"
        )
    gram = gram / top
    gram = (gram + xp.matrix_transpose(gram)) / 2
    return gram / trace(gram)[..., None, None]


def _prepared(grams: tuple[Any, ...], names: list[str]) -> tuple[list[Array], float]:
    """Matrices of trace one that broadcast, in one library, and the tolerance of the coarsest dtype."""
    tolerance = max(input_tolerance(gram) for gram in grams)
    values = together(**{f"gram_{i}": gram for i, gram in enumerate(grams)})
    parts = [_normalized(name, value) for name, value in zip(names, values, strict=True)]
    if len({part.shape[-1] for part in parts}) > 1:
        shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in zip(names, parts, strict=True))
        raise ShapeError(f"Gram matrices of different numbers of samples: {shapes}; all must be over the same samples")
    check_broadcast(**dict(zip(names, parts, strict=True)))
    return parts, tolerance


def _product(parts: list[Array]) -> Array:
    """Entrywise product, of trace one; each part is scaled by n first, so that many of them do not underflow."""
    n = parts[0].shape[-1]
    product = reduce(lambda a, b: a * (n * b), parts)
    total = trace(product)
    if (detached(total) <= 0).any():
        raise DomainError("the entrywise product of the Gram matrices has trace zero: no sample is non-zero in all")
    return product / total[..., None, None]


def _entropy(name: str, gram: Array, alpha: float, tolerance: float) -> Array:
    xp = namespace(gram)
    if alpha == 2:
        plain = detached(gram)
        shift = tolerance * identity(plain)
        if cholesky(plain + shift) is None:
            _check_eigenvalues(name, xp.linalg.eigvalsh(plain), tolerance)
        return collision_entropy(gram)
    values = xp.linalg.eigvalsh(gram)
    _check_eigenvalues(name, detached(values), tolerance)
    return renyi_of_eigenvalues(values, alpha)


def _check_eigenvalues(name: str, values: Array, tolerance: float) -> None:
    bad = values[..., 0] < -tolerance
    if bad.any():
        where = first_bad(bad)
        least = float(to_numpy(values)[(*where, 0)])
        raise DomainError(
            f"{which_matrix(name, where)} has the eigenvalue {least:.3g} of its trace, below zero by more than "
            f"rounding ({tolerance:.2g}); a Gram matrix is positive semidefinite: give x xᵀ or another kernel, and "
            "never clamp entries"
        )
