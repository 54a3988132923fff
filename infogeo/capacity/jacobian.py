"""A layer as the Gaussian channel that its Jacobian is at each input, under noise that is stated."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, group_numbers
from infogeo._units import Unit, per_nat
from infogeo.capacity._filling import fill
from infogeo.capacity._samples import (
    check_level,
    mean_interval,
    read_noise,
    read_power,
    read_samples,
    say_noise,
    warn_all,
)
from infogeo.capacity.results import LayerCapacity
from infogeo.errors import ArgumentError, DomainError, ShapeError

MEMORY = 64e6
"""Bytes of Jacobians that are whitened and decomposed at a time."""

FORMATS = {
    "float32": (23, -126),
    "float16": (10, -14),
    "bfloat16": (7, -126),
    "float8_e4m3fn": (3, -6),
    "float8_e5m2": (2, -14),
}
"""Bits of the fraction, and the least exponent of a normal number."""

Format = Literal["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]

LARGEST = {"float32": 3.4028235677973366e38, "float16": 65520.0, "bfloat16": 3.3961775292304601e38,
           "float8_e4m3fn": 464.0, "float8_e5m2": 61440.0}  # fmt: skip
"""From here on a number rounds to infinity, or to none."""


def number_format_noise(y: ArrayLike, dtype: Format | str) -> FloatArray:
    r"""Variance of the rounding of each output component to a number format, measured at the samples.

    .. math:: \sigma_j^2 = \frac1n \sum_i \frac{\mathrm{ulp}(y_{ij})^2}{12}

    An ulp is the distance between neighbors of the format at :math:`y_{ij}`: :math:`2^{e-m}` for :math:`2^e \le
    |y| < 2^{e+1}` and m bits of fraction, with e at least that of the smallest normal number. Rounding errors are taken
    as uniform within half an ulp on both sides [1]_.

    Parameters
    ----------
    y : array_like, shape (n, q)
    dtype : {"float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}

    Returns
    -------
    ndarray, shape (q,)
        Above zero, also where y is zero.

    Raises
    ------
    ArgumentError
        There is no such format here.
    DomainError
        A value is not finite, or too large for the format.

    References
    ----------
    .. [1] B. Widrow, I. Kollar, "Quantization Noise", 2008, chapter 12.

    Examples
    --------
    >>> bool(number_format_noise([[1.0]], "float16")[0] == 2.0**-20 / 12)
    True
    """
    name = str(dtype).rpartition(".")[2]
    if name not in FORMATS:
        raise ArgumentError(f"dtype: found {dtype!r}, wanted one of {', '.join(FORMATS)}")
    values = np.abs(read_samples("y", y, least=1))
    if values.max() >= LARGEST[name]:
        raise DomainError(f"y: found {values.max():.6g}, which {name} cannot hold; choose another format")
    bits, least = FORMATS[name]
    exponent = np.maximum(np.frexp(values)[1] - 1, least)
    exponent = np.where(values > 0, exponent, least)
    return np.asarray((np.ldexp(1.0, exponent - bits) ** 2 / 12).mean(axis=0))


def jacobian_capacity(
    jacobians: ArrayLike,
    *,
    noise_cov: Any,
    power: float | None = None,
    input_cov: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    unit: Unit = "nats",
) -> LayerCapacity:
    r"""Capacity of a layer's linearization at each input under stated noise, averaged over inputs.

    .. math:: C = \frac1n \sum_i \max_{\mathrm{tr}\, Q \le P} \tfrac12 \log\det(I + S_n^{-1} J_i Q J_i^T), \qquad
              R = \frac1n \sum_i \tfrac12 \log\det(I + S_n^{-1} J_i S_x J_i^T)

    The maximum is found by water-filling for each Jacobian, so Q may depend on the point [1]_.

    Choose this view for a layer that is far from linear, or to see where it passes information and where not. It
    assumes that perturbations of the input are so small that the layer is linear over them and that the noise is the
    stated one: it is the information about small changes of the input, not about the input as a whole. For a linear
    layer the two are the same. The matrix :math:`J^T S_n^{-1} J` is the Fisher information of the input; where the
    signal is far above the noise the rate is :math:`\tfrac12 \log\det(S_x J^T S_n^{-1} J)`, the log-volume of the
    input law in the Fisher metric [2]_.

    Parameters
    ----------
    jacobians : array_like, shape (n, q, p)
        Derivative of output by input at n points, or (q, p) for one.
    noise_cov : float, or array_like of shape (q,), (q, q) or (n, q)
        Variance, variances or covariance of the noise added to the output; (n, q) are variances for each point. Where
        n = q the shape (q, q) is read as a covariance. See :func:`number_format_noise`.
    power : float, optional
        P, the largest sum of the variances of the perturbation's components; by default the trace of ``input_cov``.
    input_cov : array_like, shape (p, p), optional
        Covariance of the actual input, which the rate is at. Without it there is no rate, and ``power`` is needed.
    groups : array_like, shape (n,), optional
        The text of each point; the interval then is robust to dependence within texts.
    level : float
        Coverage of the intervals.
    unit : {"nats", "bits"}

    Returns
    -------
    LayerCapacity
        Intervals of Student's law for the mean over points, or over groups; None for a single one. ``details`` holds
        the capacity and rate at each point.

    Raises
    ------
    DomainError
        A value is not finite, the noise is not positive, ``input_cov`` is no covariance.
    ShapeError
        Shapes do not fit.
    ArgumentError
        Neither ``power`` nor ``input_cov`` is given, or an argument has no such value.

    Warns
    -----
    EstimateWarning
        There is one point, or one group, so no interval.

    References
    ----------
    .. [1] I. E. Telatar, "Capacity of multi-antenna Gaussian channels", European Transactions on Telecommunications 10,
       1999, section 3.1.
    .. [2] N. Brunel, J.-P. Nadal, "Mutual information, Fisher information, and population coding", Neural Computation
       10, 1998.

    Examples
    --------
    >>> slopes = np.array([[[1.0]], [[2.0]], [[3.0]]])
    >>> found = jacobian_capacity(slopes, noise_cov=1.0, power=3.0)
    >>> bool(np.isclose(found.capacity, 0.5 * np.mean(np.log([4, 13, 28]))))
    True
    """
    factor = per_nat(unit)
    j = as_float_array("jacobians", jacobians)
    if j.ndim == 2:
        j = j[None]
    if j.ndim != 3 or 0 in j.shape:
        raise ShapeError(f"jacobians: found shape {j.shape}, wanted (points, outputs, inputs), none of them empty")
    n, q, p = j.shape
    number, level = group_numbers(groups, n), check_level(level)
    root, covariance = _input_root(input_cov, p)
    if power is None and covariance is None:
        raise ArgumentError("power: found None; without an input constraint the capacity is infinite, so give power or "
                            "input_cov")
    total = read_power(power, 0.0 if covariance is None else float(np.trace(covariance)))
    white, said = _whitener(noise_cov, n, q)
    capacities, rates = np.empty(n), np.empty(n)
    step = max(1, int(MEMORY // (8 * p * q)))
    for start in range(0, n, step):
        part = slice(start, min(n, start + step))
        matrix = white(j[part], part)
        capacities[part] = _filled(matrix, total)
        if root is not None:
            rates[part] = np.log1p(np.linalg.svd(matrix @ root, compute_uv=False) ** 2).sum(axis=-1) / 2
    messages = []
    interval = mean_interval(factor * capacities, number, level)
    if interval is None:
        messages.append("there is one group of points only, so no interval; give points of several texts")
    has_rate = root is not None
    return LayerCapacity(
        view="jacobian",
        capacity=float(factor * capacities.mean()),
        rate=float(factor * rates.mean()) if has_rate else None,
        capacity_interval=interval,
        rate_interval=mean_interval(factor * rates, number, level) if has_rate else None,
        level=None if interval is None else level,
        unit=unit,
        noise=said,
        constraint=f"variances of the {p} components of a perturbation of the input sum to {total:.6g} at most"
        + (", the trace of input_cov" if power is None else ""),
        n=n,
        warnings=warn_all(messages, stacklevel=2),
        details={
            "power": total,
            "groups": int(number.max()) + 1,
            "capacities": factor * capacities,
            "rates": factor * rates if has_rate else None,
        },
    )


def _filled(matrices: FloatArray, power: float) -> FloatArray:
    """Water-filled capacities (n,) of whitened Jacobians, in nats."""
    gains = np.asarray(np.linalg.svd(matrices, compute_uv=False) ** 2, dtype=np.float64)
    return np.asarray(fill(gains, np.ones_like(gains), np.full(len(gains), power)).terms.sum(axis=-1) / 2)


def _input_root(input_cov: ArrayLike | None, p: int) -> tuple[FloatArray | None, FloatArray | None]:
    """A root of the input covariance and itself; singular ones are welcome."""
    if input_cov is None:
        return None, None
    array = as_float_array("input_cov", input_cov)
    if array.shape != (p, p):
        raise ShapeError(f"input_cov: found shape {array.shape}, wanted ({p}, {p})")
    if not np.allclose(array, array.T, rtol=1e-9, atol=1e-12 * np.abs(array).max()):
        raise DomainError("input_cov: found a matrix that is not symmetric")
    values, basis = np.linalg.eigh((array + array.T) / 2)
    if values[0] < -1e-9 * max(values[-1], 0.0) or values[-1] <= 0:
        raise DomainError(
            f"input_cov: found eigenvalues from {values[0]:.4g} to {values[-1]:.4g}, wanted a covariance that is not "
            "zero, with none below zero"
        )
    return basis * np.sqrt(np.maximum(values, 0.0)), array  # the maximum takes rounding only


def _whitener(noise: Any, n: int, q: int) -> tuple[Any, str]:
    """What divides Jacobians by the noise, and the noise in words."""
    if not isinstance(noise, str):
        array = as_float_array("noise_cov", noise)
        if array.shape == (n, q) and n != q:
            if (array <= 0).any():
                raise DomainError(f"noise_cov: found the variance {array.min():.4g}, wanted variances above zero")
            said = f"stated variances for each point and component, total {array.sum(axis=1).mean():.6g} in the mean"
            return (lambda m, part: m / np.sqrt(array[part])[:, :, None]), said
        if array.shape not in ((), (q,), (q, q)):
            raise ShapeError(f"noise_cov: found shape {array.shape}, wanted (), ({q},), ({q}, {q}) or ({n}, {q})")
    covariance = read_noise("noise_cov", noise, q)
    said = say_noise(noise, covariance)
    if np.ndim(noise) < 2:
        scale = np.sqrt(np.diag(covariance))[:, None]
        return (lambda m, part: m / scale), said
    factor = np.linalg.cholesky(covariance)
    return (lambda m, part: np.linalg.solve(factor, m)), said
