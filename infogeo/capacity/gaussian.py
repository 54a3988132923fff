r"""Gaussian channels: water-filling, the capacity of a channel with many inputs and outputs, and its rate.

Everything is computed on the host in float64. The capacity carries gradients to tensors by the envelope theorem: at the
optimum only the explicit dependence counts, which is a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, is_tensor, like, requires_gradient, to_numpy, with_gradients
from infogeo._checks import FloatArray
from infogeo._units import Unit, per_nat
from infogeo.capacity._covariance import adjoint, as_matrix, not_negative, read_covariance, read_real
from infogeo.capacity._filling import Filled, fill, terms
from infogeo.capacity._vector_channel import broadcast, excess, read_channel, slopes
from infogeo.errors import DomainError, ShapeError
from infogeo.results import Result, to_plain

INFINITE = (
    "the channel reaches a direction of the output in which there is no noise (or none but rounding), so any number of "
    "nats passes through it; add the noise that limits it, such as the variance of the number format, or leave that "
    "output out"
)


class _Capacities(Result):
    """What the two results of this module share."""

    __slots__ = ()
    unit: Unit

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        names = ("capacity", "rate_equal_power", "level")
        columns = [to_numpy(getattr(self, name)).ravel().tolist() for name in names]
        return (*names, "unit"), [(*row, self.unit) for row in zip(*columns, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        plain = {}
        for entry in fields(self):  # type: ignore[arg-type]
            value: Any = getattr(self, entry.name)
            value = value if isinstance(value, str) else to_numpy(value)
            if np.iscomplexobj(value):
                value = {"real": value.real, "imaginary": value.imag}
            plain[entry.name] = to_plain(value)
        return {"type": type(self).__name__, **plain}

    def summary(self) -> str:
        capacity, powers, unit = (getattr(self, name) for name in ("capacity", "powers", "unit"))
        capacity, powers = to_numpy(capacity), to_numpy(powers)
        if capacity.ndim:
            return f"{type(self).__name__} of {capacity.size} channels, in {unit}"
        used = int((powers > 0).sum())
        return f"capacity = {float(capacity):.4g} {unit}, {used} of {powers.shape[-1]} sub-channels used"


@dataclass(frozen=True, eq=False, kw_only=True)
class WaterFilling(_Capacities):
    """The best powers of parallel Gaussian channels, and the capacity that they reach.

    The true capacity lies between ``capacity`` and ``capacity + residual``.
    """

    powers: Array
    """(..., n) power of each sub-channel."""
    level: Array
    """(...,) height of the water: noise over gain, plus power, of every sub-channel that is used."""
    capacity: Array
    """(...,) in ``unit`` per use."""
    rate_equal_power: Array
    """(...,) what passes with the power split evenly over all n, as one must without knowing the gains."""
    residual: Array
    """(...,) what any other powers could add at most, in ``unit``; zero where the conditions of optimality hold."""
    unit: Unit


@dataclass(frozen=True, eq=False, kw_only=True)
class GaussianCapacity(_Capacities):
    """The best input covariance of a Gaussian vector channel, and the capacity that it reaches.

    The true capacity lies between ``capacity`` and ``capacity + residual``.
    """

    capacity: Array
    """(...,) in ``unit`` per use."""
    input_cov: Array
    """(..., p, p) covariance of the input, of trace ``power``."""
    powers: Array
    """(..., min(p, q)) power of each right singular vector of the whitened channel."""
    gains: Array
    """(..., min(p, q)) squared singular values of the whitened channel, falling."""
    level: Array
    """(...,)"""
    rate_equal_power: Array
    """(...,) what passes with the same power at each input and no correlation."""
    residual: Array
    """(...,) what any other input could add at most, in ``unit``."""
    unit: Unit


def water_filling(
    gains: ArrayLike,
    power: ArrayLike,
    *,
    noise: ArrayLike = 1.0,
    complex: bool = False,  # noqa: A002
    unit: Unit = "nats",
) -> WaterFilling:
    r"""Capacity of parallel Gaussian channels with a power to share, by water-filling.

    Sub-channel i is :math:`y_i = \sqrt{g_i}\, x_i + n_i` with noise of variance :math:`N_i`, and the powers
    :math:`p_i = E x_i^2` sum to P at most. The capacity [1]_

    .. math:: C = \sum_i \tfrac12 \log\left(1 + \frac{g_i p_i}{N_i}\right), \qquad
              p_i = \left(\mu - \frac{N_i}{g_i}\right)^+, \qquad \sum_i p_i = P

    is found by sorting the floors :math:`N_i / g_i`, in O(n log n). Heights are measured from the lowest floor in units
    of P, so that gains from 1e-300 to 1e300 side by side lose no digits.

    Parameters
    ----------
    gains : array, shape (..., n)
        Power gains :math:`g_i \ge 0`. A sub-channel of gain zero gets no power.
    power : array, shape (...,)
        Total power :math:`P \ge 0`; broadcasts against the axes of ``gains`` before the last.
    noise : array, shape (..., n)
        Variances :math:`N_i` of the noise, or one for all. It may be zero only where the gain is.
    complex : bool
        Inputs and noise are circular complex, with these powers and variances: twice the real capacity, no ½.
    unit : {"nats", "bits"}
        Of the capacity and all rates.

    Returns
    -------
    WaterFilling
        If all gains are zero there is nothing to fill: capacity and powers are zero, the level is infinite. With a
        tensor among the arguments all fields are tensors, and the capacity carries gradients to gains, power and noise
        (first derivatives; at a power of zero the one-sided one).

    Raises
    ------
    DomainError
        If a gain, a power or a noise is negative or not finite, or if there is a gain without noise.
    ShapeError
        If ``gains`` has no axis or no sub-channel, or the shapes do not broadcast.
    ArgumentError
        If the unit is unknown.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, Elements of Information Theory, 2nd edition, Wiley 2006, section 9.4.

    Examples
    --------
    >>> found = water_filling([4.0, 1.0], 1.0, complex=True, unit="bits")
    >>> found.powers.tolist(), float(found.level), round(float(found.capacity), 9)
    ([0.875, 0.125], 1.125, 2.339850003)
    """
    scale = per_nat(unit) * (1.0 if complex else 0.5)
    g, p, variances = read_real("gains", gains), read_real("power", power), read_real("noise", noise)
    if g.ndim == 0 or g.shape[-1] == 0:
        raise ShapeError(f"gains: found shape {g.shape}, wanted (..., n) with at least one sub-channel")
    not_negative("gains", g, "a power gain")
    not_negative("power", p, "a power")
    not_negative("noise", variances, "a variance")
    shape = broadcast(gains=g.shape, power=(*p.shape, 1), noise=variances.shape)
    if shape[-1] != g.shape[-1]:
        raise ShapeError(f"gains: found {g.shape[-1]} sub-channels, but noise has shape {variances.shape}")
    g, variances, p = np.broadcast_to(g, shape), np.broadcast_to(variances, shape), np.broadcast_to(p, shape[:-1])
    free = (g > 0) & (variances == 0)
    if free.any():
        where = tuple(int(i) for i in np.argwhere(free)[0])
        raise DomainError(f"noise: sub-channel {where} has gain {g[where]:.6g} and no noise: its capacity is infinite")
    filled = fill(g, variances, p)
    equal = terms(g, variances, np.broadcast_to(p[..., None] / shape[-1], shape)).sum(axis=-1)
    tensor = _first_tensor(gains, power, noise)
    capacity = like(np.asarray(scale * filled.terms.sum(axis=-1)), tensor)
    if tensor is not None:
        with np.errstate(over="ignore"):
            total = variances + g * filled.powers
            safe = np.where(total > 0, total, 1.0)
            by_gain = np.where(total > 0, filled.powers / safe, 0.0)
            by_noise = np.where(g * filled.powers > 0, -g * filled.powers / safe / np.where(
                variances > 0, variances, 1.0), 0.0)
        capacity = _differentiable(
            capacity, (gains, scale * by_gain), (power, scale * _per_power(filled)), (noise, scale * by_noise)
        )
    return WaterFilling(
        powers=like(filled.powers, tensor),
        level=like(np.asarray(filled.level), tensor),
        capacity=capacity,
        rate_equal_power=like(np.asarray(scale * equal), tensor),
        residual=like(np.asarray(scale * filled.gap), tensor),
        unit=unit,
    )


def gaussian_mimo_capacity(
    channel: ArrayLike,
    noise_cov: ArrayLike,
    power: ArrayLike,
    *,
    complex: bool | None = None,  # noqa: A002
    unit: Unit = "nats",
) -> GaussianCapacity:
    r"""Capacity of the Gaussian vector channel y = Hx + n with :math:`E\Vert x\Vert^2 \le P`.

    .. math:: C = \max_{\mathrm{tr}\, Q \le P} \tfrac12 \log\det\left(I + \Sigma^{-1/2} H Q H^\top \Sigma^{-1/2}\right)
                = \sum_i \tfrac12 \log(1 + \sigma_i^2 p_i)

    with the singular values :math:`\sigma_i` of the whitened channel :math:`\Sigma^{-1/2} H` and the powers of
    :func:`water_filling`; the best input covariance is :math:`Q = V \mathrm{diag}(p) V^\top` with its right singular
    vectors [1]_. ``residual`` certifies Q without any decomposition: with
    :math:`G = H^\top (\Sigma + HQH^\top)^{-1} H` no input can do better by more than
    :math:`\tfrac12 (P \lambda_{\max}(G) - \mathrm{tr}\, GQ)`, since the rate is concave in Q.

    Parameters
    ----------
    channel : array, shape (..., q, p)
        H, from p inputs to q outputs; real or complex.
    noise_cov : array
        Covariance of the noise: a number (the same variance everywhere), (q,) variances, or (..., q, q) matrices.
        It may be singular as long as H does not reach a direction without noise. An eigenvalue below 16 q machine
        epsilons, with the variances scaled to one, counts as zero.
    power : array, shape (...,)
        :math:`P \ge 0`.
    complex : bool, optional
        Inputs and noise are circular complex: no ½. From the dtypes of channel and noise unless given.
    unit : {"nats", "bits"}
        Of the capacity and all rates.

    Returns
    -------
    GaussianCapacity
        Singular values below max(p, q) machine epsilons of the largest count as zero. With a tensor among the arguments
        all fields are tensors, and the capacity carries gradients to channel, noise and power (first derivatives; to
        real tensors only).

    Raises
    ------
    DomainError
        If the capacity is infinite, because H reaches a direction without noise (whatever the power); or if a number
        is not finite, the power negative, the noise not symmetric or not positive semidefinite.
    ShapeError
        If shapes do not fit; a channel has outputs as rows and inputs as columns.
    ArgumentError
        If ``complex=False`` is asked of complex numbers, or the unit is unknown.

    References
    ----------
    .. [1] E. Telatar, Capacity of multi-antenna Gaussian channels, European Transactions on Telecommunications 10
       (1999) 585-595, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> found = gaussian_mimo_capacity([[2.0, 0.0], [0.0, 1.0]], 1.0, 1.0, unit="bits")
    >>> round(float(found.capacity), 9), np.round(found.input_cov, 9).tolist()
    (1.169925001, [[0.875, 0.0], [0.0, 0.125]])
    """
    read = read_channel(channel, noise_cov, complex, unit)
    watts = read_real("power", power)
    not_negative("power", watts, "a power")
    q, p = read.matrix.shape[-2:]
    batch = broadcast(channel=read.batch, power=watts.shape)
    watts = np.broadcast_to(watts, batch)
    with np.errstate(over="ignore", invalid="ignore"):  # what is out of range is found below
        white, reached = read.noise.whiten(read.matrix)
    if reached:
        raise DomainError(f"noise_cov: {INFINITE}")
    if not np.isfinite(white).all():
        raise DomainError("channel: a gain over its noise is out of the range of float64; choose other units")
    _, singular, right = np.linalg.svd(white, full_matrices=False)
    least = max(p, q) * float(np.finfo(np.float64).eps) * singular.max(axis=-1, keepdims=True)
    singular = np.where(singular > least, singular, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        gains = np.broadcast_to(singular**2, (*batch, min(p, q)))
        within = np.isfinite(gains * watts[..., None]).all()
    if not within:
        raise DomainError("channel: power times gain over noise is out of the range of float64; choose other units")
    unit_noise = np.ones(gains.shape)
    filled = fill(gains, unit_noise, watts)
    modes = adjoint(right)
    covariance = np.matmul(modes * filled.powers[..., None, :], right)
    covariance = (covariance + adjoint(covariance)) / 2
    equal = terms(gains, unit_noise, np.broadcast_to(watts[..., None] / p, gains.shape)).sum(axis=-1)
    tensor = _first_tensor(channel, noise_cov, power)
    capacity = like(np.asarray(read.scale * filled.terms.sum(axis=-1)), tensor)
    if tensor is not None:
        by_channel, by_noise, _ = slopes(read, covariance)
        capacity = _differentiable(
            capacity, (channel, read.scale * 2 * by_channel), (noise_cov, read.scale * by_noise),
            (power, read.scale * _per_power(filled)),
        )
    return GaussianCapacity(
        capacity=capacity,
        input_cov=like(covariance, tensor),
        powers=like(filled.powers, tensor),
        gains=like(gains.copy(), tensor),
        level=like(np.asarray(filled.level), tensor),
        rate_equal_power=like(np.asarray(read.scale * equal), tensor),
        residual=like(np.asarray(read.scale * excess(white, covariance, watts)), tensor),
        unit=unit,
    )


def gaussian_rate(
    channel: ArrayLike,
    noise_cov: ArrayLike,
    input_cov: ArrayLike,
    *,
    complex: bool | None = None,  # noqa: A002
    unit: Unit = "nats",
) -> Array:
    r"""Information that a Gaussian input passes through y = Hx + n with Gaussian noise.

    .. math:: I(X; Y) = \tfrac12 \log\det\left(I + \Sigma^{-1/2} H Q H^\top \Sigma^{-1/2}\right)

    from the singular values of :math:`\Sigma^{-1/2} H Q^{1/2}` [1]_, without a determinant that could cancel.

    Parameters
    ----------
    channel : array, shape (..., q, p)
        H, from p inputs to q outputs; real or complex.
    noise_cov : array
        Covariance of the noise: a number, (q,) variances, or (..., q, q) matrices; singular ones as in
        :func:`gaussian_mimo_capacity`.
    input_cov : array
        Q, in the same three forms for the p inputs; may be singular.
    complex : bool, optional
        Inputs and noise are circular complex: no ½. From the dtypes unless given.
    unit : {"nats", "bits"}
        Of the rate.

    Returns
    -------
    array, shape (...,)
        With a tensor among the arguments a tensor, with gradients to all three (first derivatives; to real tensors).

    Raises
    ------
    DomainError, ShapeError, ArgumentError
        As :func:`gaussian_mimo_capacity`; the rate is infinite where the input reaches a direction without noise.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, Elements of Information Theory, 2nd edition, Wiley 2006, section 9.5.

    Examples
    --------
    >>> round(float(gaussian_rate([[1.0, 1.0]], 1.0, [[1.0, 0.5], [0.5, 1.0]], unit="bits")), 9)
    1.0
    """
    read = read_channel(channel, noise_cov, complex, unit, input_cov)
    p = read.matrix.shape[-1]
    factors, given = read_covariance("input_cov", input_cov, p, "input")
    broadcast(channel=read.batch, input_cov=given.shape[:-2])
    with np.errstate(over="ignore", invalid="ignore"):  # what is out of range is found below
        white, reached = read.noise.whiten(np.matmul(read.matrix, factors.root()))
    if reached:
        raise DomainError(f"noise_cov: {INFINITE}")
    if not np.isfinite(white).all():
        raise DomainError("channel: a signal over its noise is out of the range of float64; choose other units")
    singular = np.linalg.svd(white, compute_uv=False)
    small = singular < 0.5
    value = np.where(small, np.log1p(np.where(small, singular, 0.0) ** 2), 2 * np.log(np.hypot(1.0, singular)))
    rate = np.asarray(read.scale * value.sum(axis=-1))
    tensor = _first_tensor(channel, noise_cov, input_cov)
    if tensor is None:
        return rate
    by_channel, by_noise, by_input = slopes(read, as_matrix(given, p))
    return _differentiable(
        like(rate, tensor), (channel, read.scale * 2 * by_channel), (noise_cov, read.scale * by_noise),
        (input_cov, read.scale * by_input),
    )


def _per_power(filled: Filled) -> FloatArray:
    """Derivative of the sum of logarithms to the power: one over the level."""
    return np.asarray(np.where(np.isfinite(filled.level), 1 / filled.level, 0.0))


def _first_tensor(*values: Any) -> Any:
    return next((value for value in values if is_tensor(value)), None)


def _differentiable(value: Array, *parts: tuple[Any, FloatArray]) -> Array:
    """The value, a tensor, with its gradients to those of the arguments that record them."""
    batch = value.ndim
    given = []
    for parameter, slope in parts:
        if not requires_gradient(parameter):
            continue
        slope = np.real(slope)
        while slope.ndim - batch > parameter.ndim:  # variances or one number in place of a matrix, or of a row
            slope = np.diagonal(slope, axis1=-2, axis2=-1) if slope.ndim - batch == 2 else slope.sum(axis=-1)
        given.append((parameter.double(), like(slope, parameter)))
    return with_gradients(value, *given)
