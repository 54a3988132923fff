"""Covariances as arguments: a number, variances or matrices, with roots and whitening also of singular ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infogeo._arrays import is_tensor, to_numpy
from infogeo._checks import FloatArray, as_array, check_tensor
from infogeo.errors import DomainError, ShapeError

Matrix = NDArray[Any]
"""float64 or complex128."""

ROUNDING = 1e-9
"""How far, relative to the two variances, a covariance may be from its transpose by rounding."""

LOST = 16 * float(np.finfo(np.float64).eps)
"""An eigenvalue of a correlation matrix below this, times its order, is zero but for rounding."""


class Covariance(NamedTuple):
    r"""Factors of a batch of covariances: :math:`S = s\, U \mathrm{diag}(w)\, U^H s` with a diagonal s."""

    scale: FloatArray
    """(..., d) standard deviations."""
    basis: Matrix | None
    """(..., d, d) eigenvectors of the correlations; None for a diagonal covariance."""
    weights: FloatArray
    """(..., d) eigenvalues of the correlations, zero where they are rounding."""

    def root(self) -> Matrix:
        """(..., d, d) a matrix whose product with its own adjoint is the covariance."""
        weights = np.sqrt(self.weights)[..., None, :]
        basis: Matrix = np.eye(self.scale.shape[-1]) if self.basis is None else self.basis
        return np.asarray(self.scale[..., :, None] * basis * weights)

    def whiten(self, matrix: Matrix) -> tuple[Matrix, bool]:
        """The matrix (..., d, k) in the unit of the noise, without rows where there is no noise; whether one is lost.

        A row is lost if the matrix reaches a direction without noise.
        """
        noisy = self.scale > 0
        scaled = matrix / np.where(noisy, self.scale, 1.0)[..., :, None]
        reached = bool((np.where(noisy[..., None], 0.0, abs(matrix)) > 0).any())
        if self.basis is None:
            return np.where(noisy[..., None], scaled, 0.0), reached
        scaled = np.where(noisy[..., None], scaled, 0.0)
        turned = np.matmul(adjoint(self.basis), scaled)
        silent = self.weights == 0
        size = np.abs(scaled).max(axis=(-2, -1), initial=0.0, keepdims=True)
        beyond = np.where(silent[..., None], abs(turned), 0.0) > ROUNDING * size
        # a component without noise has a silent eigenvector of its own, met above
        reached = reached or bool(beyond.any())
        weights = np.where(silent, 1.0, self.weights)
        return np.asarray(np.where(silent[..., None], 0.0, turned / np.sqrt(weights)[..., None])), reached

    def solve(self, matrix: Matrix) -> Matrix:
        """Pseudo-inverse of the noise on its range, applied to (..., d, k)."""
        white, _ = self.whiten(matrix)
        weights = np.where(self.weights > 0, self.weights, 1.0)
        back = np.where(self.weights[..., None] > 0, white / np.sqrt(weights)[..., None], 0.0)
        if self.basis is not None:
            back = np.matmul(self.basis, back)
        noisy = self.scale > 0
        return np.asarray(np.where(noisy[..., None], back / np.where(noisy, self.scale, 1.0)[..., None], 0.0))


def adjoint(matrix: Matrix) -> Matrix:
    """Conjugate transposes."""
    return np.asarray(np.conj(np.swapaxes(matrix, -1, -2)))


def read_numbers(name: str, value: Any) -> Matrix:
    """A fresh float64 or complex128 array of finite numbers; the values of a tensor, whatever it records."""
    if is_tensor(value) and value.is_complex():
        if value.requires_grad:
            raise DomainError(
                f"{name}: found a complex tensor that records a gradient; gradients are given to real tensors only, so "
                f"give {name}.detach()"
            )
        check_tensor(name, value.real)
        array = to_numpy(value.resolve_conj())
    elif is_tensor(value):
        check_tensor(name, value)
        array = to_numpy(value.detach().double())
    else:
        array = as_array(name, value)
    if array.dtype.kind not in "fiubc":
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted real or complex numbers")
    array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        place = f"entry {where} is" if where else "found"
        raise DomainError(f"{name}: {place} {array[where]}; all entries must be finite")
    return array


def read_real(name: str, value: Any) -> FloatArray:
    """As :func:`read_numbers`, but complex numbers are refused."""
    array = read_numbers(name, value)
    if array.dtype.kind == "c":
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted real numbers")
    return array


def not_negative(name: str, array: FloatArray, what: str) -> None:
    """Raise, with the place, if an entry is negative."""
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        place = f"entry {where} is" if where else "found"
        raise DomainError(f"{name}: {place} {array[where]}; {what} is not negative")


def read_covariance(name: str, value: Any, d: int, of: str) -> tuple[Covariance, Matrix]:
    """A number, (d,) variances or (..., d, d) matrices as factors, and the values as they were given."""
    array = read_numbers(name, value)
    if array.ndim < 2:
        if array.ndim == 1 and array.shape != (d,):
            raise ShapeError(f"{name}: found {array.shape[0]} variances, wanted {d}, one for each {of}")
        if array.dtype.kind == "c":
            raise DomainError(f"{name}: found complex variances, wanted real numbers")
        not_negative(name, array, "a variance")
        scale = np.sqrt(np.broadcast_to(array, (d,)))
        return Covariance(scale, None, np.where(scale > 0, 1.0, 0.0)), array
    if array.shape[-2:] != (d, d):
        raise ShapeError(
            f"{name}: found shape {array.shape}, wanted a number, {d} variances, or matrices of shape (..., {d}, {d}), "
            f"as there are {d} {of}s"
        )
    variances = np.diagonal(array, axis1=-2, axis2=-1)
    if np.iscomplexobj(array) and (np.abs(variances.imag) > ROUNDING * np.abs(variances.real)).any():
        raise DomainError(f"{name}: the variances on the diagonal are complex, wanted a Hermitian matrix")
    variances = np.asarray(variances.real)
    not_negative(f"{name}, diagonal", variances, "a variance")
    scale = np.sqrt(variances)
    pairs = scale[..., :, None] * scale[..., None, :]
    excess = np.abs(array) > pairs * (1 + ROUNDING)
    if excess.any():
        where = tuple(int(i) for i in np.argwhere(excess)[0])
        raise DomainError(
            f"{name}: entry {where} is {array[where]:.6g}, more than the two standard deviations multiply to "
            f"({pairs[where]:.6g}); no covariance is that large, give a positive semidefinite matrix"
        )
    crooked = np.abs(array - adjoint(array)) > ROUNDING * pairs
    if crooked.any():
        where = tuple(int(i) for i in np.argwhere(crooked)[0])
        twin = (*where[:-2], where[-1], where[-2])
        raise DomainError(
            f"{name}: entry {where} is {array[where]:.6g} and its mirror {array[twin]:.6g}; wanted a symmetric "
            "(Hermitian) matrix"
        )
    safe = np.where(scale > 0, scale, 1.0)
    correlation = array / safe[..., :, None] / safe[..., None, :]
    correlation = (correlation + adjoint(correlation)) / 2
    weights, basis = np.linalg.eigh(correlation)
    if d and (weights < -ROUNDING * d).any():
        where = tuple(int(i) for i in np.argwhere(weights < -ROUNDING * d)[0])
        which = f" of matrix {where[:-1]}" if where[:-1] else ""
        raise DomainError(
            f"{name}: an eigenvalue{which} is negative ({weights[where]:.3g} with variances scaled to one); wanted a "
            "positive semidefinite matrix"
        )
    return Covariance(scale, basis, np.where(weights > LOST * d, weights, 0.0)), array


def as_matrix(array: Matrix, d: int) -> Matrix:
    """A number, (d,) variances or (..., d, d) matrices as matrices."""
    return np.asarray(array if array.ndim >= 2 else np.broadcast_to(array, (d,)) * np.eye(d))
