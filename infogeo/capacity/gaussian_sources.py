r"""Rate and distortion of Gaussian sources under squared error: water-filling in reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import is_tensor
from infogeo._checks import FloatArray, as_float_array
from infogeo._units import Unit, per_nat
from infogeo.capacity._covariance import Matrix, adjoint, not_negative, read_covariance
from infogeo.capacity._filling import drain
from infogeo.errors import DomainError, ShapeError
from infogeo.results import Result


@dataclass(frozen=True, eq=False, kw_only=True)
class ReverseWaterFilling(Result):
    """The best distortions of independent Gaussian sources, and the rate that they need.

    The true rate lies between ``rate - residual`` and ``rate``.
    """

    distortions: FloatArray
    """(..., n) mean squared error of each source (of each principal axis, for a covariance)."""
    level: FloatArray
    """(...,) height of the water: the error of every source that is coded at all."""
    rate: FloatArray
    """(...,) in ``unit`` per symbol."""
    residual: FloatArray
    """(...,) how far the rate may be above the least one, in ``unit``."""
    unit: Unit
    error_cov: Matrix | None = None
    """(..., n, n) covariance of the error, where a covariance was given."""

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        rates, levels = np.ravel(self.rate).tolist(), np.ravel(self.level).tolist()
        return ("rate", "level", "unit"), [(r, w, self.unit) for r, w in zip(rates, levels, strict=True)]

    def summary(self) -> str:
        if self.rate.ndim:
            return f"ReverseWaterFilling of {self.rate.size} sources, in {self.unit}"
        return f"rate = {float(self.rate):.4g} {self.unit}, each component with an error of at most {self.level:.4g}"


def reverse_water_filling(
    variances: ArrayLike, distortion: ArrayLike, *, unit: Unit = "nats"
) -> ReverseWaterFilling:
    r"""Rate-distortion function of independent Gaussian sources under squared error.

    .. math:: R(D) = \sum_i \tfrac12 \log \frac{\sigma_i^2}{D_i}, \qquad D_i = \min(\lambda, \sigma_i^2), \qquad
              \sum_i D_i = D

    Sources whose variance is below the level :math:`\lambda` are not coded at all [1]_. Found by sorting, in
    O(n log n).

    Parameters
    ----------
    variances : array, shape (..., n)
        :math:`\sigma_i^2 \ge 0`.
    distortion : array, shape (...,)
        Total mean squared error D allowed, not its mean over the sources. From the sum of the variances on, the rate is
        zero and the distortions are the variances, which then sum to less than D.
    unit : {"nats", "bits"}
        Of the rate.

    Returns
    -------
    ReverseWaterFilling

    Raises
    ------
    DomainError
        If a number is negative or not finite, or the distortion is zero where a variance is not: the rate is infinite.
    ShapeError
        If there is no source, or the shapes do not broadcast.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, Elements of Information Theory, 2nd edition, Wiley 2006, section 10.3.3.

    Examples
    --------
    >>> found = reverse_water_filling([4.0, 1.0, 0.25], 1.25, unit="bits")
    >>> found.distortions.tolist(), float(found.rate)
    ([0.5, 0.5, 0.25], 2.0)
    """
    v = as_float_array("variances", variances)
    if v.ndim == 0 or v.shape[-1] == 0:
        raise ShapeError(f"variances: found shape {v.shape}, wanted (..., n) with at least one source")
    not_negative("variances", v, "a variance")
    return _drained(v, distortion, unit)


def gaussian_rate_distortion(
    covariance: ArrayLike, distortion: ArrayLike, *, unit: Unit = "nats"
) -> ReverseWaterFilling:
    r"""Rate-distortion function of a Gaussian vector under squared error.

    The vector is turned to its principal axes, whose components are independent, and those are treated by
    :func:`reverse_water_filling`. The error has the covariance :math:`U \mathrm{diag}(D_i)\, U^\top`.

    Parameters
    ----------
    covariance : array, shape (..., n, n)
        Covariance of the source; may be singular. A complex one is that of a circular complex source, whose rate has no
        ½.
    distortion : array, shape (...,)
        Total mean squared error :math:`E\Vert X - \hat X\Vert^2` allowed.
    unit : {"nats", "bits"}
        Of the rate.

    Returns
    -------
    ReverseWaterFilling
        With ``error_cov``; ``distortions`` in the order of falling variance.

    Raises
    ------
    DomainError
        As :func:`reverse_water_filling`, or if the matrix is not symmetric or not positive semidefinite.
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> found = gaussian_rate_distortion([[1.0, 0.6], [0.6, 1.0]], 0.5)
    >>> round(float(found.rate), 6), found.distortions.tolist()
    (1.163151, [0.25, 0.25])
    """
    if is_tensor(covariance):
        covariance = as_float_array("covariance", covariance)
    shape = np.shape(covariance)
    if len(shape) < 2 or shape[-1] == 0:
        raise ShapeError(
            f"covariance: found shape {shape}, wanted (..., n, n); for variances use reverse_water_filling"
        )
    factors, given = read_covariance("covariance", covariance, shape[-1], "component")
    basis, singular, _ = np.linalg.svd(factors.root())
    return _drained(singular**2, distortion, unit, basis, halved=given.dtype.kind != "c")


def _drained(
    v: FloatArray, distortion: ArrayLike, unit: Unit, basis: Matrix | None = None, *, halved: bool = True
) -> ReverseWaterFilling:
    scale = per_nat(unit) * (0.5 if halved else 1.0)
    allowed = as_float_array("distortion", distortion)
    not_negative("distortion", allowed, "a squared error")
    try:
        batch = np.broadcast_shapes(v.shape[:-1], allowed.shape)
    except ValueError:
        raise ShapeError(f"shapes do not broadcast: variances {v.shape}, distortion {allowed.shape}") from None
    v, allowed = np.broadcast_to(v, (*batch, v.shape[-1])), np.broadcast_to(allowed, batch)
    impossible = (allowed == 0) & (v > 0).any(axis=-1)
    if impossible.any():
        where = tuple(int(i) for i in np.argwhere(impossible)[0])
        raise DomainError(
            f"distortion: found 0{f' at {where}' if where else ''}; a continuous source without error needs an "
            "infinite rate, allow an error above zero"
        )
    drained = drain(v, allowed)
    error = None
    if basis is not None:
        error = np.matmul(basis * drained.distortions[..., None, :], adjoint(basis))
        error = (error + adjoint(error)) / 2
    return ReverseWaterFilling(
        distortions=drained.distortions, level=np.asarray(drained.level),
        rate=np.asarray(scale * drained.terms.sum(axis=-1)), residual=np.asarray(scale * drained.gap), unit=unit,
        error_cov=error,
    )
