"""Coding rate of a set of vectors, and its reduction by classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, detached, namespace
from infogeo._checks import as_int_array
from infogeo._spectra import matrices, positive_number
from infogeo._units import Unit, per_nat
from infogeo.errors import DomainError, ShapeError


def coding_rate(x: Any, *, epsilon: float, unit: Unit = "nats") -> Array:
    r"""Rate at which the rows can be coded, as a Gaussian source, up to a squared error.

    .. math:: R(X, \epsilon) = \frac12 \log \det\Big(I + \frac{d}{n \epsilon^2} X^\top X\Big)

    per row [1]_. At least 0, which it is for zero rows alone. Not centered, and it grows when ``x`` is scaled up: rows
    are usually divided by their lengths first.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        One row for each sample.
    epsilon : float
        Root of the squared error allowed to a row, positive.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)
        With gradients where ``x`` records them.

    Raises
    ------
    ShapeError
        If there is no row or column.
    DomainError
        If an entry is not finite, or the determinant is out of the range of float64.
    ArgumentError
        If ``epsilon`` is not positive, or the unit unknown.

    References
    ----------
    .. [1] Y. Yu et al., "Learning diverse and discriminative representations via the principle of maximal coding rate
       reduction", NeurIPS 2020, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> float(coding_rate(np.eye(2), epsilon=1.0, unit="bits"))
    1.0
    """
    small, factor = positive_number("epsilon", epsilon), per_nat(unit)
    return _rate(matrices("x", x), small) * factor


def rate_reduction(x: Any, labels: ArrayLike, *, epsilon: float, unit: Unit = "nats") -> Array:
    r"""Coding rate of all rows less the mean rate of the classes, each coded alone.

    .. math:: \Delta R = R(X, \epsilon) - \sum_k \frac{n_k}{n} R(X_k, \epsilon)

    At least 0, and 0 if there is one class; large where classes span different directions [1]_. Not centered, and it
    changes when ``x`` is scaled.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        One row for each sample.
    labels : array_like of int, shape (n,)
        Class of each row, the same for all matrices of a batch.
    epsilon : float
        Root of the squared error allowed to a row, positive.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there is no row or column, or the labels are not one for each row.
    DomainError
        If an entry is not finite, or the labels are not whole numbers.
    ArgumentError
        If ``epsilon`` is not positive, or the unit unknown.

    References
    ----------
    .. [1] Y. Yu et al., "Learning diverse and discriminative representations via the principle of maximal coding rate
       reduction", NeurIPS 2020, equations 5 and 6.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(rate_reduction(np.eye(2), [0, 1], epsilon=1.0)), 6)  # log 2 less half of log 3
    0.143841
    """
    small, factor = positive_number("epsilon", epsilon), per_nat(unit)
    rows = matrices("x", x)
    classes = as_int_array("labels", labels)
    n = rows.shape[-2]
    if classes.shape != (n,):
        raise ShapeError(f"labels: found shape {classes.shape}, wanted ({n},), one label for each row of x")
    value = _rate(rows, small)
    for label in np.unique(classes):
        (members,) = np.nonzero(classes == label)
        value = value - len(members) / n * _rate(rows[..., members, :], small)
    return value * factor


def _rate(x: Array, epsilon: float) -> Array:
    xp = namespace(x)
    n, d = x.shape[-2:]
    scale = math.sqrt(d / n) / epsilon
    message = "x: squares over epsilon squared leave the range of float64; scale x down"
    with np.errstate(over="ignore"):
        scaled = x * scale
        if not xp.isfinite(detached(scaled)).all():
            raise DomainError(message)
        # not by the determinant, which keeps nothing of the identity where some directions are weak and others strong
        values = xp.linalg.svdvals(scaled)
        squares = values * values
    if not xp.isfinite(detached(squares)).all():
        raise DomainError(message)
    return xp.sum(xp.log1p(squares), axis=-1) / 2
