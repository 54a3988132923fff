r"""Fisher information carried from one set of parameters to another: softmax scores, pull-back along a Jacobian.

A model that ends in a softmax is a map from its parameters to logits followed by a categorical distribution. The
Fisher information of the second step is known in closed form, and :func:`pullback_metric` carries it, or any other
metric, back along the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from infogeo._arrays import Array, is_tensor, like, namespace, requires_gradient, to_numpy
from infogeo._checks import FloatArray, as_float_array, check_count, check_number, check_tensor, frozen, within_range
from infogeo._secular import BISECTIONS, softmax_eigenpairs
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.families import Family
from infogeo.geometry import INNER_PRODUCT, fisher_information, inner_product

SYMMETRY_TOLERANCE = 1e-8
"""Largest difference of mirror entries of a metric that passes as rounding, relative to its largest entry."""

EIGEN_TOLERANCE = 1e-10
"""Largest residual of an eigenpair of a softmax, relative to the largest eigenvalue."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Eigenpairs:
    """Leading eigenvalues and eigenvectors of a symmetric matrix, with what vouches for them."""

    values: FloatArray
    """(..., k), the largest first"""
    vectors: FloatArray
    """(..., n, k), of length one; ``vectors[..., :, j]`` belongs to ``values[..., j]``"""
    residual: FloatArray
    r"""(..., k), lengths of :math:`G v - \lambda v`, computed from the matrix again"""
    iterations: int
    """Products with the matrix, or steps of the root finder."""
    tolerance: float
    """What the residuals must not exceed, relative to the largest eigenvalue."""
    converged: bool


@dataclass(frozen=True, eq=False)
class SoftmaxFisher:
    r"""Fisher information of a softmax in its logits, :math:`F = \mathrm{diag}(p) - p p^\top`, never formed.

    Everything is of order V in time and memory, so that vocabularies of any size fit. F is symmetric, positive
    semidefinite and singular: adding a constant to all logits changes nothing, so :math:`F 1 = 0`. All results keep
    their digits where one probability is nearly one.

    Parameters
    ----------
    logits : array or tensor, shape (..., V)
        Unnormalized scores; minus infinity stands for an outcome that is masked out. Tensors become float64 and keep
        their record of gradients; then results are tensors.

    Raises
    ------
    ShapeError
        If there is no axis of outcomes, or an axis is empty.
    DomainError
        If an entry is NaN or plus infinity, or all scores of a row are minus infinity.

    References
    ----------
    .. [1] S. Amari, Information Geometry and Its Applications, Springer 2016, section 2.2 (categorical distributions
       as an exponential family).

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import SoftmaxFisher
    >>> fisher = SoftmaxFisher(np.log([0.5, 0.3, 0.2]))
    >>> fisher.matvec([1.0, 0.0, 0.0]).round(6).tolist()  # the first column
    [0.25, -0.15, -0.1]
    >>> round(float(fisher.trace()), 6)  # 1 - 0.25 - 0.09 - 0.04
    0.62
    """

    logits: Array
    """(..., V)"""

    def __post_init__(self) -> None:
        logits = _real("logits", self.logits, masked=True)
        if logits.ndim == 0 or 0 in logits.shape:
            raise ShapeError(f"logits: found shape {tuple(logits.shape)}, wanted (..., V) with at least one outcome")
        xp = namespace(logits)
        empty = xp.isinf(xp.max(logits, axis=-1))
        if bool(xp.any(empty)):
            where = tuple(int(i) for i in np.argwhere(to_numpy(empty))[0])
            raise DomainError(f"logits: all scores of row {where} are minus infinity; there is no such distribution")
        object.__setattr__(self, "logits", logits if is_tensor(logits) else frozen(logits))

    @property
    def dimension(self) -> int:
        """Number V of outcomes."""
        return int(self.logits.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes of the logits."""
        return tuple(self.logits.shape[:-1])

    @cached_property
    def log_probs(self) -> Array:
        """(..., V) logarithms of the probabilities; that of the largest is exact also next to probability one."""
        xp = namespace(self.logits)
        top = xp.max(self.logits, axis=-1, keepdims=True)
        shifted = self.logits - (top.detach() if is_tensor(top) else top)
        rest = xp.where(self._is_top, xp.expm1(shifted), xp.exp(shifted))  # the sum of exponentials, less one
        return shifted - xp.log1p(xp.sum(rest, axis=-1, keepdims=True))

    @cached_property
    def probs(self) -> Array:
        """(..., V) probabilities."""
        return namespace(self.logits).exp(self.log_probs)

    @cached_property
    def _is_top(self) -> Array:
        xp = namespace(self.logits)
        place = xp.argmax(self.logits, axis=-1, keepdims=True)
        return xp.arange(self.dimension, **_device(self.logits)) == place

    def matvec(self, v: Any) -> Array:
        r""":math:`F v = p \circ (v - p^\top v)` for v of shape (..., V), which broadcasts against the batch."""
        return self.probs * self._centered(v)

    def inner_product(self, v: Any, w: Any) -> Array:
        r""":math:`v^\top F w`, the covariance of v and w under p, for v and w of shape (..., V)."""
        xp = namespace(self.logits)
        return xp.sum(self.probs * self._centered(v) * self._centered(w), axis=-1)

    def factor_matvec(self, u: Any) -> Array:
        r""":math:`B u` with :math:`B = (I - p 1^\top)\,\mathrm{diag}(\sqrt p)`, a square root: :math:`F = B B^\top`.

        A vector u of independent standard normals gives draws from the normal of covariance F.
        """
        xp = namespace(self.logits)
        u = self._vector("u", u)
        weighted = xp.exp(self.log_probs / 2) * u
        rest = xp.sum(xp.where(self._is_top, xp.zeros_like(weighted), weighted), axis=-1, keepdims=True)
        total = xp.sum(weighted, axis=-1, keepdims=True)
        top = -weighted * xp.expm1(self.log_probs) - self.probs * rest
        return xp.where(self._is_top, top, weighted - self.probs * total)

    def factor_rmatvec(self, v: Any) -> Array:
        r""":math:`B^\top v = \sqrt p \circ (v - p^\top v)`, whose squared length is :math:`v^\top F v`."""
        return namespace(self.logits).exp(self.log_probs / 2) * self._centered(v)

    def diagonal(self) -> Array:
        """(..., V) diagonal, p (1 - p)."""
        return -self.probs * namespace(self.logits).expm1(self.log_probs)

    def trace(self) -> Array:
        r"""(...,) trace, :math:`1 - \sum_i p_i^2`."""
        return namespace(self.logits).sum(self.diagonal(), axis=-1)

    def to_dense(self, *, memory: float = 1e9) -> Array:
        """The matrices (..., V, V), symmetric to the last bit, if they take no more than ``memory`` bytes.

        Raises
        ------
        ArgumentError
            If they would take more.
        """
        xp = namespace(self.logits)
        needed = 8 * math.prod(self.batch_shape) * self.dimension**2
        memory = check_number("memory", memory)
        if needed > memory:
            raise ArgumentError(
                f"memory: the matrices of batch shape {self.batch_shape} for {self.dimension} outcomes take "
                f"{needed:.3g} bytes, more than the {memory:.3g} allowed; use SoftmaxFisher, which never forms them, "
                "or raise memory"
            )
        outer = -self.probs[..., :, None] * self.probs[..., None, :]
        same = xp.eye(self.dimension, dtype=xp.bool, **_device(self.logits))
        return xp.where(same, self.diagonal()[..., None], outer)

    def eigenpairs(self, k: int = 1) -> Eigenpairs:
        r"""The k largest eigenvalues and their eigenvectors, from the secular equation.

        The eigenvalues are the roots of :math:`\sum_i p_i / (p_i - \lambda) = 0`, one between each two neighboring
        probabilities [1]_, and each probability that occurs m times, m - 1 times. A root is found by bisection of its
        distance from the nearer probability, so that it keeps its digits. The vectors are NumPy arrays, without a
        record of gradients.

        Parameters
        ----------
        k : int
            From 1 to V.

        Returns
        -------
        Eigenpairs

        Raises
        ------
        ArgumentError
            If k is out of range.
        ConvergenceError
            If a residual exceeds 1e-10 of the largest eigenvalue; it carries the result.

        References
        ----------
        .. [1] G. H. Golub, Some modified matrix eigenvalue problems, SIAM Review 15 (1973) 318-334, section 5.

        Examples
        --------
        >>> import numpy as np
        >>> from infogeo import SoftmaxFisher
        >>> SoftmaxFisher(np.zeros(4)).eigenpairs(2).values.tolist()  # 1/V, V - 1 times
        [0.25, 0.25]
        """
        k = check_count("k", k, 1)
        if k > self.dimension:
            raise ArgumentError(f"k: found {k}, wanted at most {self.dimension}, the number of outcomes")
        plain = self if not is_tensor(self.logits) else SoftmaxFisher(to_numpy(self.logits))
        rows = plain.probs.reshape(-1, self.dimension)
        found = [softmax_eigenpairs(row, k) for row in rows]
        values = np.stack([value for value, _ in found]).reshape(*self.batch_shape, k)
        vectors = np.stack([vector for _, vector in found]).reshape(*self.batch_shape, k, self.dimension)
        spread = SoftmaxFisher(plain.logits[..., None, :])
        off = np.linalg.norm(spread.matvec(vectors) - values[..., None] * vectors, axis=-1)
        result = Eigenpairs(
            values=values, vectors=np.swapaxes(vectors, -1, -2), residual=off, iterations=BISECTIONS,
            tolerance=EIGEN_TOLERANCE, converged=bool((off <= EIGEN_TOLERANCE * values[..., :1]).all()),
        )
        if not result.converged:
            raise ConvergenceError(
                f"eigenpairs: a residual is {off.max():.3g}, above {EIGEN_TOLERANCE:g} of the largest eigenvalue; "
                "probabilities may be too close to each other, ask for fewer pairs", result,
            )
        return result

    def _centered(self, v: Any) -> Array:
        """``v`` less its mean under p; measured from its value at the most probable outcome, which nothing cancels."""
        xp = namespace(self.logits)
        v = self._vector("v", v)
        w = v - xp.sum(xp.where(self._is_top, v, xp.zeros_like(v)), axis=-1, keepdims=True)
        return w - xp.sum(self.probs * w, axis=-1, keepdims=True)

    def _vector(self, name: str, value: Any) -> Array:
        array = _real(name, value)
        if is_tensor(self.logits) != is_tensor(array):
            array = like(array, self.logits) if is_tensor(self.logits) else as_float_array(name, to_numpy(array))
        if array.ndim == 0 or array.shape[-1] != self.dimension:
            raise ShapeError(
                f"{name}: found shape {tuple(array.shape)}, wanted (..., {self.dimension}), one number for each outcome"
            )
        try:
            np.broadcast_shapes(tuple(array.shape[:-1]), self.batch_shape)
        except ValueError:
            raise ShapeError(
                f"{name}: leading axes {tuple(array.shape[:-1])} do not broadcast against {self.batch_shape}"
            ) from None
        return array


def softmax_fisher_information(logits: Any, *, memory: float = 1e9) -> Array:
    r"""Fisher information matrix of a softmax in its logits, :math:`F = \mathrm{diag}(p) - p p^\top`.

    With :math:`p = \mathrm{softmax}(z)` the score is :math:`e_y - p`, whose covariance F is [1]_; F is also the
    Hessian of the cross-entropy in the logits, whatever the target. It is singular in the direction of equal changes
    of all logits. For vocabularies whose matrix does not fit, :class:`SoftmaxFisher` offers products, trace,
    diagonal, square root and eigenpairs without forming it.

    Parameters
    ----------
    logits : array or tensor, shape (..., V)
        Minus infinity stands for an outcome that is masked out.
    memory : float
        Bytes that the result may take.

    Returns
    -------
    array or tensor, shape (..., V, V)
        Symmetric to the last bit; float64. Differentiable in torch.

    Raises
    ------
    ShapeError
        If there is no axis of outcomes, or an axis is empty.
    DomainError
        If an entry is NaN or plus infinity, or all scores of a row are minus infinity.
    ArgumentError
        If the result would take more than ``memory``.

    See Also
    --------
    SoftmaxFisher : The same without forming the matrix.
    pullback_metric : Fisher information of the parameters that the logits depend on.

    References
    ----------
    .. [1] S. Amari, Information Geometry and Its Applications, Springer 2016, section 2.2.

    Examples
    --------
    >>> softmax_fisher_information([0.0, 0.0]).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    return SoftmaxFisher(logits).to_dense(memory=memory)


def pullback_metric(jacobian: Any, metric: Any) -> Array:
    r"""Metric carried back along a map: :math:`J^\top G J`, for example from the outputs of a model to its inputs.

    If the m numbers that G measures depend on n others through a map with Jacobian J, then this is the metric that
    the n numbers inherit: the length of a velocity v is that of :math:`J v`. The Fisher information of a distribution
    whose parameters come out of a model is of this kind [1]_.

    Parameters
    ----------
    jacobian : array or tensor, shape (..., m, n)
        Rates of change of the m numbers with each of the n.
    metric : array, tensor, Family or SoftmaxFisher
        An array (..., m, m), symmetric; a :class:`Family`, which stands for its Fisher information in its
        coordinates, m of them (where the family knows inner products without the matrix, the matrix is not formed);
        or a :class:`SoftmaxFisher`, where the m numbers are logits. Leading axes broadcast.

    Returns
    -------
    array or tensor, shape (..., n, n)
        Symmetric to the last bit; for a positive semidefinite G positive semidefinite up to rounding. A tensor if one
        of the two is. Gradients are recorded through the Jacobian, through an array and through logits, and through
        the parameters of a family only where its Fisher information is a tensor.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DomainError
        If an entry is not finite, or the array is not symmetric.
    UnsupportedFamilyError
        If the family has no Fisher information.

    References
    ----------
    .. [1] S. Amari, Information Geometry and Its Applications, Springer 2016, section 12.1.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DiagonalGaussian
    >>> pullback_metric([[1.0], [2.0]], np.eye(2)).tolist()
    [[5.0]]
    >>> tied = [[1.0], [1.0]]  # the variance moves as fast as the mean
    >>> pullback_metric(tied, DiagonalGaussian([0.0], [1.0])).tolist()  # 1/v + 1/(2 v^2)
    [[1.5]]
    """
    jac = _real("jacobian", jacobian)
    if jac.ndim < 2 or 0 in jac.shape:
        raise ShapeError(f"jacobian: found shape {tuple(jac.shape)}, wanted (..., m, n)")
    if isinstance(metric, SoftmaxFisher):
        softmax = metric
        return within_range("pullback_metric", lambda: _pullback_softmax(jac, softmax))
    if isinstance(metric, Family):
        if not is_tensor(jac) and type(metric) in INNER_PRODUCT.families and not _holds_tensors(metric):
            return _pullback_family(jac, metric)
        _check_rows(jac, metric.coordinate_size, metric.batch_shape, f"coordinates of {type(metric).__name__}")
        metric = fisher_information(metric)
    g = _real("metric", metric)
    if g.ndim < 2 or g.shape[-1] != g.shape[-2] or 0 in g.shape:
        raise ShapeError(f"metric: found shape {tuple(g.shape)}, wanted (..., m, m)")
    _check_rows(jac, g.shape[-1], tuple(g.shape[:-2]), "rows of the metric")
    xp, jac, g = _together(jac, g)
    mirror = xp.matrix_transpose(g)
    off = float(xp.max(xp.abs(g - mirror)))
    if off > SYMMETRY_TOLERANCE * float(xp.max(xp.abs(g))):
        raise DomainError(f"metric: not symmetric, mirror entries differ by up to {off:.3g}; a metric is symmetric")
    even = g / 2 + mirror / 2
    return within_range("pullback_metric", lambda: _symmetrized(xp, xp.matrix_transpose(jac) @ even @ jac))


# ------------------------------------------------------------------------------------------------------- internals


def _pullback_softmax(jac: Array, metric: SoftmaxFisher) -> Array:
    _check_rows(jac, metric.dimension, metric.batch_shape, "logits of the softmax")
    xp, jac, logits = _together(jac, metric.logits)
    factor = SoftmaxFisher(logits[..., None, :]).factor_rmatvec(xp.matrix_transpose(jac))  # (..., n, V)
    return _symmetrized(xp, factor @ xp.matrix_transpose(factor))


def _pullback_family(jac: FloatArray, metric: Family) -> FloatArray:
    _check_rows(jac, metric.coordinate_size, metric.batch_shape, f"coordinates of {type(metric).__name__}")
    columns = np.swapaxes(jac, -1, -2)
    n = columns.shape[-2]
    result = np.empty((*np.broadcast_shapes(metric.batch_shape, columns.shape[:-2]), n, n))
    spread = metric[..., None]
    for i in range(n):  # row by row, so that temporaries stay as small as the Jacobian
        result[..., i, i:] = inner_product(spread, columns[..., i : i + 1, :], columns[..., i:, :])
        result[..., i:, i] = result[..., i, i:]
    return result


def _check_rows(jac: Array, m: int, batch: tuple[int, ...], what: str) -> None:
    if jac.shape[-2] != m:
        raise ShapeError(
            f"jacobian: found shape {tuple(jac.shape)}, wanted (..., {m}, n): a row for each of the {what}"
        )
    try:
        np.broadcast_shapes(tuple(jac.shape[:-2]), batch)
    except ValueError:
        raise ShapeError(f"jacobian: leading axes {tuple(jac.shape[:-2])} do not broadcast against {batch}") from None


def _real(name: str, value: Any, *, masked: bool = False) -> Array:
    """A float64 array or tensor of finite numbers, with ``masked`` of minus infinity too; gradients stay recorded."""
    if not is_tensor(value):
        array, xp = as_float_array(name, value, finite=False), np
    else:
        check_tensor(name, value)
        xp = namespace(value)
        if not xp.isdtype(value.dtype, "real floating") and not xp.isdtype(value.dtype, "integral"):
            raise DomainError(f"{name}: found dtype {value.dtype}, wanted real numbers")
        array = xp.astype(value, xp.float64, copy=False)
    bad = xp.isnan(array) | (array > 0) & xp.isinf(array) if masked else ~xp.isfinite(array)
    if bool(xp.any(bad)):
        plain = to_numpy(array)
        where = tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])
        wanted = "finite, or minus infinity for an outcome that is masked out" if masked else "finite"
        raise DomainError(f"{name}: entry {where} is {plain[where]}; all entries must be {wanted}")
    return array


def _together(a: Array, b: Array) -> tuple[Any, Array, Array]:
    """Both in one library and on one device, that of the tensor if one is, with its namespace."""
    if is_tensor(a) and not is_tensor(b):
        b = like(b, a)
    elif is_tensor(b) and not is_tensor(a):
        a = like(a, b)
    return namespace(a, b), a, b


def _symmetrized(xp: Any, x: Array) -> Array:
    return (x + xp.matrix_transpose(x)) / 2


def _device(x: Array) -> dict[str, Any]:
    return {"device": x.device} if is_tensor(x) else {}


def _holds_tensors(p: Family) -> bool:
    values = [getattr(p, name) for name in p.event_axes]
    return any(is_tensor(x) for x in values) or requires_gradient(*values)
