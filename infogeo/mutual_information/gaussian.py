"""Mutual information of jointly normal variables from samples, without the bias of small samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray
from infogeo._units import Unit, per_nat
from infogeo.errors import DomainError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._samples import (
    EPSILON,
    read_together,
    say_constant,
    standardized,
    without_constants,
)

SPREAD = 0.25
"""Standard deviation, in nats, of the estimate from independent samples from which it is said."""


def gaussian_mutual_information(
    x: ArrayLike, y: ArrayLike, *, bias_correction: bool = True, unit: Unit = "nats"
) -> float:
    r"""Mutual information of two variables that are jointly normal, from the covariance of samples.

    .. math::

        I = \tfrac12 \log \frac{\det S_x \det S_y}{\det S_{xy}} - (b_x + b_y - b_{xy}), \qquad
        b_d = \tfrac12 \sum_{j=1}^{d} \Bigl[\psi\Bigl(\frac{n - j}{2}\Bigr) + \log 2 - \log(n - 1)\Bigr]

    S is the sample covariance (divided by n - 1), and b the expectation of half the logarithm of its determinant when
    the true one is 1, so that the estimate has no bias for normal samples, in any dimension [1]_. For other
    variables it is the information of their linear dependence alone. Units and linear maps of x or y do not change it.

    Parameters
    ----------
    x, y : array_like, shape (n,) or (n, d)
        Samples; row i of both was observed together. Constant columns are left out: they carry no information.
    bias_correction : bool
        Whether b is taken off.
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
        If a number is not finite, there are no more samples than columns, or a column is a linear combination of
        others (within x or y: leave it out; across: the information is infinite).

    Warns
    -----
    EstimateWarning
        If x or y is constant (the estimate is 0), or the estimate would have a standard deviation of more than 0.25
        nats even for independent variables.

    References
    ----------
    .. [1] N. Misra, H. Singh and E. Demchuk, "Estimation of the entropy of a multivariate normal distribution",
       Journal of Multivariate Analysis 92, 2005.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((1000, 10))
    >>> y = x + rng.standard_normal((1000, 10))
    >>> truth = 5 * float(np.log(2))
    >>> abs(gaussian_mutual_information(x, y) - truth) < 0.1
    True
    """
    scale = per_nat(unit)
    x, y = (without_constants(z) for z in read_together(x=x, y=y))
    if say_constant(x=x, y=y):
        return 0.0
    value = normal_information(x, y, bias_correction=bias_correction)
    say_spread(len(x), x.shape[1], y.shape[1])
    return value * scale


def say_spread(n: int, p: int, q: int, *, known: int = 0) -> None:
    """Warn if so few samples of so many columns, with others known, say next to nothing."""
    from scipy.special import polygamma

    left = n - known - np.arange(1, q + 1)
    spread = float(0.5 * np.sqrt((polygamma(1, (left - p) / 2) - polygamma(1, left / 2)).sum()))
    if spread > SPREAD:
        beside = f", {known} more being known," if known else ""
        warnings.warn(
            f"few samples: the estimate from {n} samples of {p} and {q} columns{beside} has a standard deviation of "
            f"{spread:.2g} nats even if they are independent; give more samples, or fewer columns",
            EstimateWarning,
            stacklevel=3,
        )


def normal_information(x: FloatArray, y: FloatArray, *, bias_correction: bool) -> float:
    """Mutual information of two normal variables in nats, from checked samples."""
    check_samples(x=x, y=y)
    volumes = log_volumes({"x": x, "y": y}, [("x",), ("y",), ("x", "y")])
    if bias_correction:
        n, p, q = len(x), x.shape[1], y.shape[1]
        volumes = volumes - np.array([volume_bias(n, d) for d in (p, q, p + q)])
    return float(volumes[0] + volumes[1] - volumes[2])


def check_samples(**arrays: FloatArray) -> None:
    """Raise unless there are more samples than columns in all."""
    n = len(next(iter(arrays.values())))
    columns = sum(array.shape[1] for array in arrays.values())
    if n <= columns:
        listed = " and ".join(f"{array.shape[1]} of {name}" for name, array in arrays.items())
        raise DomainError(
            f"found {n} samples of {columns} columns ({listed}): a covariance needs more samples than columns; give "
            "more samples, or fewer columns (for example the first principal components)"
        )


def log_volumes(arrays: dict[str, FloatArray], groups: Sequence[tuple[str, ...]]) -> FloatArray:
    """Half the logarithm of the determinant of the correlations in each group of variables.

    Correlations and covariances give the same information, since the scales of the columns cancel.
    """
    scaled, slack = {}, {}
    for name, array in arrays.items():
        z, rounding = standardized(array)
        scaled[name] = z - z.mean(axis=0)
        # Samples at the typical size: one far sample says nothing about the digits of the others.
        slack[name] = 16 * float(np.sqrt(np.mean(rounding**2))) + len(z) * EPSILON
        if slack[name] >= 1:
            raise DomainError(
                f"{name}: the numbers are so large beside their spread that hardly a digit of it is left in float64; "
                "take off the large part where they are made, before they are rounded"
            )
    n = len(z)
    # One triangular factor of all columns stands for the samples; those of the groups come from its columns.
    factor = np.linalg.qr(np.hstack(list(scaled.values())), mode="r") / np.sqrt(n - 1)
    ends = np.cumsum([array.shape[1] for array in arrays.values()])
    part = {name: factor[:, end - arrays[name].shape[1] : end] for name, end in zip(arrays, ends, strict=True)}
    found = []
    for group in groups:
        diagonal = np.abs(np.diagonal(np.linalg.qr(np.hstack([part[name] for name in group]), mode="r")))
        # A column is known no better than those that it is compared with, which stand before it.
        coarsest = np.maximum.accumulate([slack[name] for name in group])
        bad = np.flatnonzero(diagonal <= np.repeat(coarsest, [arrays[name].shape[1] for name in group]))
        if len(bad):
            _refuse_collinear(int(bad[0]), group, scaled)
        found.append(np.log(diagonal).sum())
    return np.array(found)


def _refuse_collinear(place: int, group: tuple[str, ...], arrays: dict[str, FloatArray]) -> None:
    for name in group:
        width = arrays[name].shape[1]
        if place < width:
            break
        place -= width
    which = f"{name}: column {place} (counted from 0, constant columns left out)"
    if name == group[0]:
        raise DomainError(f"{which} is a linear combination of the columns before it, up to rounding; leave it out")
    raise DomainError(
        f"{which} is a linear combination of the columns before it and those of {' and '.join(group[:-1])}, up to "
        "rounding: the information of normal variables is infinite; leave the column out, or add the noise that it has"
    )


def volume_bias(n: float, d: int) -> float:
    """Expectation of half the log-determinant of the sample covariance of n standard normal samples in d dimensions."""
    from scipy.special import digamma

    degrees = (n - np.arange(1, d + 1)) / 2
    return float(0.5 * (digamma(degrees) + np.log(2) - np.log(n - 1)).sum())
