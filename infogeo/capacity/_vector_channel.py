r"""What a Gaussian vector channel is read into, and the derivatives of its log-determinant."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from infogeo._checks import FloatArray
from infogeo._units import per_nat
from infogeo.capacity._covariance import Covariance, Matrix, adjoint, as_matrix, read_covariance, read_numbers
from infogeo.errors import ArgumentError, ShapeError


class Channel(NamedTuple):
    """A batch of channels y = Hx + n."""

    matrix: Matrix
    noise: Covariance
    noise_given: Matrix
    batch: tuple[int, ...]
    scale: float
    """What turns a sum of logarithms into the unit."""


def read_channel(channel: Any, noise_cov: Any, wanted: bool | None, unit: str, *others: Any) -> Channel:
    """Checked arguments; complex unless ``wanted`` says otherwise if one of them, or of the others, is."""
    per = per_nat(unit)
    matrix = read_numbers("channel", channel)
    if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
        raise ShapeError(
            f"channel: found shape {matrix.shape}, wanted (..., q, p) with outputs as rows and inputs as columns, at "
            "least one of each"
        )
    q, p = matrix.shape[-2:]
    try:
        noise, given = read_covariance("noise_cov", noise_cov, q, "output")
    except ShapeError as error:
        shape = tuple(getattr(noise_cov, "shape", np.shape(noise_cov)))
        hint = f"; is the channel transposed? Its rows are the {q} outputs" if p != q and p in shape[-1:] else ""
        raise ShapeError(f"{error}{hint}") from None
    parts = [matrix, given, *(read_numbers("input_cov", other) for other in others)]
    found = any(part.dtype.kind == "c" for part in parts)
    if wanted is False and found:
        raise ArgumentError("complex: found False beside complex numbers; leave it out, or give the real parts apart")
    use_complex = found if wanted is None else wanted
    batch = broadcast(channel=matrix.shape[:-2], noise_cov=given.shape[:-2])
    return Channel(matrix, noise, given, batch, per * (1.0 if use_complex else 0.5))


def broadcast(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape, or an error that names the arguments."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"shapes do not broadcast: {listed}") from None


def excess(white: Matrix, covariance: Matrix, power: FloatArray) -> FloatArray:
    """What another input covariance of the same power could add to the log-determinant at most."""
    through = np.matmul(white, covariance)
    total = np.matmul(through, adjoint(white))
    total = (total + adjoint(total)) / 2 + np.eye(total.shape[-1])
    right = np.broadcast_to(white, (*total.shape[:-1], white.shape[-1]))
    slope = np.matmul(adjoint(white), np.linalg.solve(total, right))
    best = np.linalg.eigvalsh((slope + adjoint(slope)) / 2)[..., -1]
    used = np.einsum("...ij,...ji->...", slope, covariance).real
    return np.asarray(np.maximum(power * best - used, 0.0))


def slopes(read: Channel, covariance: Matrix) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of the log-determinant: half of that to the channel, those to the noise and to the input."""
    h, q = read.matrix, read.matrix.shape[-2]
    whitened, _ = read.noise.whiten(h)
    through = np.matmul(np.matmul(whitened, covariance), adjoint(whitened))
    inner = np.linalg.solve(np.eye(q) + through, np.broadcast_to(whitened, (*through.shape[:-1], h.shape[-1])))
    by_input = np.matmul(adjoint(whitened), inner)
    noise = as_matrix(read.noise_given, q)
    eye = np.broadcast_to(np.eye(q), (*noise.shape[:-2], q, q))
    inverse = read.noise.solve(eye)
    seen = np.matmul(inverse, h)  # inverse noise times the channel
    by_channel = np.matmul(seen, covariance - np.matmul(covariance, np.matmul(by_input, covariance)))
    middle = covariance - np.matmul(covariance, np.matmul(by_input, covariance))
    by_noise = -np.matmul(np.matmul(seen, middle), adjoint(seen))
    return by_channel, by_noise, by_input
