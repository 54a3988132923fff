"""A Fisher information matrix known by its products with vectors: trace, diagonal, eigenpairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError, ConvergenceError, DomainError
from infogeo.fisher import Eigenpairs, SoftmaxFisher
from infogeo_adapters._jacobian_products import Jacobian, as_vector, to_array

if TYPE_CHECKING:
    import torch
    from scipy.sparse.linalg import LinearOperator

Output = Literal["softmax", "gaussian"]
Method = Literal["exact", "hutchinson", "factor"]

DENSE = 32
"""Eigenpairs of matrices up to this size are taken from the matrix itself."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A trace or a diagonal, and how far it may be off."""

    value: Any
    """A number, or an array (n,)."""
    standard_error: Any
    """Of the value, from the spread of the probes; zero if it is exact. An array for a diagonal."""
    probes: int
    """Random vectors used, 0 if it is exact."""
    method: Method


@dataclass(frozen=True, eq=False, repr=False)
class FisherOperator:
    """A symmetric positive semidefinite matrix over chosen parameters of a module, never formed.

    Made by :func:`generalized_gauss_newton` and :func:`empirical_fisher`. It belongs to the values that the parameters
    had then; once they are changed every product is refused with a ModelError. Vectors hold the parameters one after
    the other in the order of ``names``, each flattened; :meth:`split` and :meth:`join` translate.
    """

    kind: Literal["generalized_gauss_newton", "empirical_fisher"]
    names: tuple[str, ...]
    """The chosen parameters."""
    observations: int
    """Predictions (or samples) that the matrix is a sum or mean over."""
    scale: float
    """What the sum over the observations is multiplied with: one over their number for a mean."""
    _jacobian: Jacobian
    _output: Output
    _variance: float

    @property
    def size(self) -> int:
        """Number n of chosen numbers; the matrix is n x n."""
        return self._jacobian.size

    def __repr__(self) -> str:
        reduction = "sum" if self.scale == 1 else "mean"
        return (
            f"<FisherOperator {self.kind}, {self.size} x {self.size} over {len(self.names)} parameters, {reduction} "
            f"over {self.observations} observations>"
        )

    def join(self, parts: Mapping[str, torch.Tensor]) -> FloatArray:
        """One vector (n,) from tensors by name, such as ``{name: parameter.grad}``."""
        return to_array(as_vector("parts", dict(parts), self._jacobian))

    def split(self, vector: Any) -> dict[str, torch.Tensor]:
        """Tensors by name, in the formats of the parameters, from one vector (n,)."""
        return self._jacobian.split(as_vector("vector", vector, self._jacobian))

    def matvec(self, vector: Any) -> Any:
        """Product with a vector (n,): an array for an array, a float64 tensor for a tensor.

        Takes, for each micro-batch, a pass with derivative and a pass backward.
        """
        found = self._multiply(as_vector("vector", vector, self._jacobian))
        return found if hasattr(vector, "detach") else to_array(found)

    def quadratic_form(self, vector: Any) -> float:
        r""":math:`v^\top F v`; no pass backward is needed for it, and it is never negative."""
        return self._quadratic(as_vector("vector", vector, self._jacobian))

    def trace(self, *, method: Method = "factor", probes: int = 64, rng: np.random.Generator | int = 0) -> Estimate:
        r"""Trace of the matrix.

        Parameters
        ----------
        method : {'factor', 'hutchinson', 'exact'}
            ``factor`` draws random signs u for the outputs and takes the mean of :math:`|J^\top B u|^2`, where
            :math:`H = B B^\top`; ``hutchinson`` [1]_ draws random signs z for the parameters and takes the mean of
            :math:`z^\top F z`. Both have the trace as their expectation. ``exact`` takes n products, or one pass
            backward for each output of each observation if those are fewer: for small problems.
        probes : int
            Random vectors, at least 2.
        rng : numpy.random.Generator or int

        Returns
        -------
        Estimate

        References
        ----------
        .. [1] M. F. Hutchinson, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing
           splines, Communications in Statistics - Simulation and Computation 18 (1989) 1059-1076.
        """
        if _method(method) == "exact":
            return Estimate(value=float(self._exact_diagonal().sum()), standard_error=0.0, probes=0, method=method)
        draws = np.array([x.sum() for x in self._diagonal_draws(method, probes, rng)])
        error = float(draws.std(ddof=1) / math.sqrt(probes))
        return Estimate(value=float(draws.mean()), standard_error=error, probes=probes, method=method)

    def diagonal(self, *, method: Method = "factor", probes: int = 64, rng: np.random.Generator | int = 0) -> Estimate:
        r"""Diagonal of the matrix.

        Parameters
        ----------
        method : {'factor', 'hutchinson', 'exact'}
            ``factor`` takes the mean of the squares of :math:`J^\top B u` as for :meth:`trace`: never negative, and
            with a relative error near :math:`\sqrt{2/\text{probes}}` in every entry. ``hutchinson`` takes the mean of
            :math:`z \circ F z` [1]_, whose error in an entry is the length of the rest of its row: small only for
            matrices that are nearly diagonal. ``exact`` as for :meth:`trace`.
        probes : int
            Random vectors, at least 2.
        rng : numpy.random.Generator or int

        Returns
        -------
        Estimate
            With arrays (n,).

        References
        ----------
        .. [1] C. Bekas, E. Kokiopoulou, Y. Saad, An estimator for the diagonal of a matrix, Applied Numerical
           Mathematics 57 (2007) 1214-1229.
        """
        if _method(method) == "exact":
            value = self._exact_diagonal()
            return Estimate(value=value, standard_error=np.zeros_like(value), probes=0, method=method)
        mean, squares = np.zeros(self.size), np.zeros(self.size)
        for count, draw in enumerate(self._diagonal_draws(method, probes, rng), start=1):
            change = draw - mean
            mean += change / count
            squares += change * (draw - mean)
        error = np.sqrt(squares / (probes - 1) / probes)
        return Estimate(value=mean, standard_error=error, probes=probes, method=method)

    def eigenpairs(
        self, k: int = 1, *, tol: float | None = None, max_iter: int | None = None,
        rng: np.random.Generator | int = 0,
    ) -> Eigenpairs:
        r"""The k largest eigenvalues with their eigenvectors, by the implicitly restarted Lanczos method of ARPACK.

        Parameters
        ----------
        k : int
            From 1 to n - 1; matrices up to 32 x 32 are formed, and may be asked for all n.
        tol : float, optional
            How large the residual of a pair may be, relative to the largest eigenvalue; by default 1e-8, and 1e-4 if
            a chosen parameter has fewer digits than float64.
        max_iter : int, optional
            Restarts; by default those of ARPACK, 10 n.
        rng : numpy.random.Generator or int
            For the first vector.

        Returns
        -------
        Eigenpairs
            ``residual`` from products with the matrix after the iteration, ``iterations`` the number of products.

        Raises
        ------
        ConvergenceError
            If ARPACK gives up, or a residual exceeds the tolerance; it carries what was found.
        """
        from scipy.sparse.linalg import ArpackNoConvergence, eigsh

        k = check_count("k", k, 1)
        tolerance = tolerance_for(tol, self._jacobian)
        if k > (self.size if self.size <= DENSE else self.size - 1):
            raise ArgumentError(f"k: found {k}, wanted fewer than {self.size}, the size of the matrix")
        counter = Counter(self)
        if self.size <= DENSE:
            values, vectors = np.linalg.eigh(_symmetric(np.stack([counter(e) for e in np.eye(self.size)])))
            values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        else:
            start = np.random.default_rng(rng).standard_normal(self.size)
            try:
                values, vectors = eigsh(
                    counter.operator(), k=k, which="LA", v0=start, tol=tolerance / 10, maxiter=max_iter
                )
            except ArpackNoConvergence as error:
                values, vectors = error.eigenvalues, error.eigenvectors
            order = np.argsort(values)[::-1]
            values, vectors = values[order], vectors[:, order]
        off = np.array([np.linalg.norm(counter(v) - a * v) for a, v in zip(values, vectors.T, strict=True)])
        good = len(values) == k and bool((off <= tolerance * max(abs(values[0]), np.finfo(np.float64).tiny)).all())
        result = Eigenpairs(
            values=np.asarray(values, dtype=np.float64), vectors=np.asarray(vectors, dtype=np.float64), residual=off,
            iterations=counter.count, tolerance=tolerance, converged=good,
        )
        if not good:
            raise ConvergenceError(
                f"eigenpairs: {len(values)} of {k} pairs were found, with residuals up to {off.max(initial=0.0):.3g} "
                f"where {tolerance:g} of the largest eigenvalue was wanted; allow more iterations, a larger tolerance, "
                "or use a model in float64", result,
            )
        return result

    def to_dense(self, *, memory: float = 1e9) -> FloatArray:
        """The matrix (n, n), from n products, if it takes no more than ``memory`` bytes.

        Raises
        ------
        ArgumentError
            If it would take more.
        """
        if 8 * self.size**2 > memory:
            raise ArgumentError(
                f"memory: the matrix takes {8 * self.size**2:.3g} bytes, more than the {memory:.3g} allowed; choose "
                "fewer parameters, or use products, trace, diagonal and eigenpairs, which never form it"
            )
        return _symmetric(np.stack([self.matvec(e) for e in np.eye(self.size)]))

    def linear_operator(self) -> LinearOperator:
        """The same as a ``scipy.sparse.linalg.LinearOperator``."""
        return Counter(self).operator()

    def loss_gradient(self) -> FloatArray:
        """Gradient (n,) of the loss at the given targets, summed or averaged as the matrix is.

        Raises
        ------
        ArgumentError
            For a generalized Gauss-Newton matrix, which knows no targets.
        """
        if self.kind != "empirical_fisher":
            raise ArgumentError(
                "loss_gradient: a generalized Gauss-Newton matrix knows no targets; take the gradient from "
                "empirical_fisher(...) of the same parameters, or from loss.backward() with join"
            )
        import torch

        total = torch.zeros(self.size, dtype=torch.float64, device=self._jacobian.device)
        with self._jacobian.ready():
            for batch in self._jacobian.batches:
                loss, pull = self._jacobian.backward(batch)
                total += pull(torch.ones_like(loss))
        return self.scale * to_array(total)

    # what stands behind them

    def _multiply(self, vector: torch.Tensor) -> torch.Tensor:
        import torch

        total = torch.zeros_like(vector)
        with self._jacobian.ready():
            for batch in self._jacobian.batches:
                output, moved = self._jacobian.forward(batch, vector)
                weighted = self._curve(output).matvec(moved)
                _, pull = self._jacobian.backward(batch)
                total += pull(weighted)
        return self.scale * total

    def _quadratic(self, vector: torch.Tensor) -> float:
        total = 0.0
        with self._jacobian.ready():
            for batch in self._jacobian.batches:
                output, moved = self._jacobian.forward(batch, vector)
                total += float((self._curve(output).factor_rmatvec(moved) ** 2).sum())
        return self.scale * total

    def _curve(self, output: torch.Tensor) -> SoftmaxFisher | _Multiple:
        """The Hessian of the loss in the outputs."""
        import torch

        if self.kind == "generalized_gauss_newton" and self._output == "softmax":
            return SoftmaxFisher(output)
        known = self.kind == "empirical_fisher"
        return _Multiple(torch.float64, 1.0 if known else 1 / self._variance)

    def _exact_diagonal(self) -> FloatArray:
        import torch

        with self._jacobian.ready():
            rows = sum(int(output.numel()) for output in self._jacobian.outputs())
            if rows > self.size:
                eye = np.eye(1, self.size)[0]
                return np.array([self.quadratic_form(np.roll(eye, i)) for i in range(self.size)])
            total = torch.zeros(self.size, dtype=torch.float64, device=self._jacobian.device)
            for batch in self._jacobian.batches:
                output, pull = self._jacobian.backward(batch)
                curve = self._curve(output)
                for i in range(output.numel()):
                    unit = torch.zeros(output.numel(), dtype=torch.float64, device=output.device)
                    unit[i] = 1.0
                    total += pull(curve.factor_matvec(unit.reshape(output.shape))) ** 2
        return self.scale * to_array(total)

    def _diagonal_draws(self, method: Method, probes: int, rng: np.random.Generator | int) -> Iterator[FloatArray]:
        """Independent random vectors whose expectation is the diagonal."""
        import torch

        generator = np.random.default_rng(rng)
        for _ in range(check_count("probes", probes, 2)):
            if method == "hutchinson":
                signs = generator.integers(0, 2, self.size) * 2.0 - 1.0
                yield signs * self.matvec(signs)
                continue
            total = torch.zeros(self.size, dtype=torch.float64, device=self._jacobian.device)
            with self._jacobian.ready():
                for batch in self._jacobian.batches:
                    output, pull = self._jacobian.backward(batch)
                    drawn = generator.integers(0, 2, tuple(output.shape)) * 2.0 - 1.0
                    total += pull(self._curve(output).factor_matvec(torch.as_tensor(drawn, device=output.device)))
            yield self.scale * to_array(total) ** 2


# ------------------------------------------------------------------------------------------------------- internals


@dataclass(frozen=True)
class _Multiple:
    """A multiple of the identity, with the methods of :class:`SoftmaxFisher` that are used here."""

    dtype: torch.dtype
    factor: float

    def matvec(self, v: torch.Tensor) -> torch.Tensor:
        return v.to(self.dtype) * self.factor

    def factor_matvec(self, u: torch.Tensor) -> torch.Tensor:
        return u.to(self.dtype) * math.sqrt(self.factor)

    factor_rmatvec = factor_matvec


class Counter:
    """Products of an operator, with damping, counted."""

    def __init__(self, fisher: FisherOperator, damping: float = 0.0) -> None:
        self.fisher, self.damping, self.count = fisher, damping, 0

    def __call__(self, vector: FloatArray) -> FloatArray:
        self.count += 1
        flat = np.ravel(vector)
        product: FloatArray = self.fisher.matvec(flat) + self.damping * flat
        return product

    def operator(self) -> LinearOperator:
        from scipy.sparse.linalg import LinearOperator

        n = self.fisher.size
        return LinearOperator((n, n), matvec=self, rmatvec=self, dtype=np.float64)


def _method(method: str) -> str:
    if method not in ("exact", "hutchinson", "factor"):
        raise ArgumentError(f"method: found {method!r}, wanted 'exact', 'hutchinson' or 'factor'")
    return method


def tolerance_for(tolerance: float | None, jacobian: Jacobian) -> float:
    if tolerance is None:
        return 1e-4 if jacobian.single else 1e-8
    if not 0 < tolerance < 1:
        raise DomainError(f"tol: found {tolerance}, wanted a number between 0 and 1")
    return float(tolerance)


def _symmetric(matrix: FloatArray) -> FloatArray:
    return (matrix + matrix.T) / 2
