r"""Fisher information and Gauss-Newton matrices of torch models, known by their products with vectors.

For a model with parameters θ, outputs f(θ) and a loss that is the negative logarithm of a softmax or a normal density
at the outputs, three matrices are in use:

* the Fisher information :math:`F = E[s s^\top]`, s the score, targets drawn from *the model itself*;
* the generalized Gauss-Newton matrix :math:`J^\top H J`, J the Jacobian of the outputs, H the Hessian of the loss in
  the outputs. For these two losses H is the Fisher information in the outputs, so that the two matrices are one and the
  same [1]_: :func:`generalized_gauss_newton` is the exact Fisher information;
* the "empirical Fisher" :math:`\sum_n g_n g_n^\top`, g the gradients at the *given* targets: another matrix, equal to
  the first two only where the model fits the data [2]_: :func:`empirical_fisher`.

Derivatives of the outputs are taken by forward-mode differentiation (``torch.func.jvp``) or by two backward passes,
then carried back by one (``torch.func.vjp``), for some samples at a time.

References
----------
.. [1] J. Martens, New insights and perspectives on the natural gradient method, Journal of Machine Learning Research
   21 (2020) 146, sections 8 and 9.
.. [2] F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher approximation for natural gradient
   descent, NeurIPS 2019, arXiv 1905.12558.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo_adapters._fisher_operator import Counter, Output, tolerance_for
from infogeo_adapters._fisher_operator import Estimate as Estimate
from infogeo_adapters._fisher_operator import FisherOperator as FisherOperator
from infogeo_adapters._jacobian_products import (
    Batch,
    Differentiation,
    Filter,
    Jacobian,
    as_vector,
    choose_parameters,
    make_batches,
    to_array,
)
from infogeo_adapters._require import require

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.loading import LanguageModel


@dataclass(frozen=True, eq=False, kw_only=True)
class NaturalGradient:
    """A natural gradient direction, with the residual of the equation it solves."""

    direction: FloatArray
    """(n,); a step of descent subtracts it. ``operator.split`` turns it into tensors by name."""
    residual: float
    r"""Length of :math:`(F + \rho I) x - g` over that of g, computed again after the iteration."""
    iterations: int
    tolerance: float
    damping: float
    converged: bool


def generalized_gauss_newton(
    module: torch.nn.Module | LanguageModel,
    inputs: Any,
    *,
    output: Output = "softmax",
    variance: float = 1.0,
    parameters: Filter = None,
    batch_size: int = 8,
    reduction: Literal["mean", "sum"] = "mean",
    differentiation: Differentiation = "forward",
) -> FisherOperator:
    r"""Generalized Gauss-Newton matrix of a module, :math:`\sum_n J_n^\top H_n J_n`: its exact Fisher information.

    :math:`J_n` is the Jacobian of the outputs for observation n in the chosen parameters; :math:`H_n` is
    :math:`\mathrm{diag}(p) - p p^\top` for outputs that are logits of a softmax, and :math:`I/\sigma^2` for outputs
    that are means of normals. In both cases that is the Fisher information of the outputs, so the matrix is the true
    Fisher information of the model at the given inputs, the expectation over targets drawn from the model itself [1]_;
    where the outputs are linear in the parameters it is the Hessian of the loss too.

    The matrix is known by its products. Attention runs by plain matrix products meanwhile, because the fused kernels of
    torch have neither a forward-mode derivative nor a second backward one. Dropout is off and batch normalization uses
    its stored statistics: the module is in evaluation mode during each product and afterwards as before.

    Parameters
    ----------
    module : torch.nn.Module or LanguageModel
        Its output is a tensor (samples, ..., m), or an object with such ``logits``.
    inputs : tensor, tuple of tensors, mapping of tensors, or texts
        With the samples on the first axis; a mapping is passed by keyword. For a :class:`LanguageModel` a text or
        several: an observation is then each token that follows another, and no text is padded.
    output : {'softmax', 'gaussian'}
        What the last axis of the output holds. All axes before it count observations.
    variance : float
        Variance of the normals around ``gaussian`` outputs.
    parameters : str, sequence of str, callable, optional
        Which parameters: patterns of names with wildcards (``"*.mlp.*"``), or a function of the name. By default all
        that require a gradient.
    batch_size : int
        Samples or texts at a time. It bounds the memory and changes no result but by rounding.
    reduction : {'mean', 'sum'}
        Over the observations.
    differentiation : {'forward', 'double_backward'}
        How outputs are differentiated: in forward mode, or by two backward passes, for modules with an operation that
        has no forward-mode derivative.

    Returns
    -------
    FisherOperator

    Raises
    ------
    ArgumentError, ShapeError, DomainError
        If an argument does not fit.
    ModelError
        If a language model predicts no next token, the output is no tensor, or (at the first product) an operation
        has not the derivative asked for.
    MissingDependencyError
        If torch is not installed.

    References
    ----------
    .. [1] J. Martens, New insights and perspectives on the natural gradient method, Journal of Machine Learning
       Research 21 (2020) 146.

    Examples
    --------
    >>> import torch
    >>> from infogeo_adapters import generalized_gauss_newton
    >>> linear = torch.nn.Linear(1, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(linear.weight)
    >>> operator = generalized_gauss_newton(linear, torch.tensor([[1.0], [3.0]]))
    >>> operator.to_dense().tolist()  # mean of x^2 times [[1/4, -1/4], [-1/4, 1/4]]
    [[1.25, -1.25], [-1.25, 1.25]]
    """
    require("torch", extra="transformers", caller="generalized_gauss_newton")
    _check_options(output, variance, reduction, differentiation)
    found, batches = make_batches(module, inputs, None, check_count("batch_size", batch_size, 1))

    def finish(value: torch.Tensor, batch: Batch) -> torch.Tensor:
        return _predictions(value, batch).flatten(0, -2)

    jacobian = Jacobian(found, choose_parameters(found, parameters), batches, finish, differentiation)
    with jacobian.ready():
        observations = sum(len(rows) for rows in jacobian.outputs())
    return FisherOperator(
        "generalized_gauss_newton", jacobian.names, observations, 1 / observations if reduction == "mean" else 1.0,
        jacobian, output, float(variance),
    )


def empirical_fisher(
    module: torch.nn.Module | LanguageModel,
    inputs: Any,
    targets: torch.Tensor | None = None,
    *,
    output: Output = "softmax",
    variance: float = 1.0,
    unit: Literal["prediction", "sample"] = "prediction",
    parameters: Filter = None,
    batch_size: int = 8,
    reduction: Literal["mean", "sum"] = "mean",
    differentiation: Differentiation = "forward",
) -> FisherOperator:
    r"""Outer products of the gradients at given targets, :math:`\sum_n g_n g_n^\top`, the "empirical Fisher".

    :math:`g_n` is the gradient of the loss (negative log-likelihood) of observation n. It is not the Fisher information
    of the model, whose targets are drawn from the model, and is no substitute for it away from a perfect fit [1]_; for
    the Fisher information itself use :func:`generalized_gauss_newton`.

    Parameters
    ----------
    module : torch.nn.Module or LanguageModel
    inputs : tensor, tuple of tensors, mapping of tensors, or texts
        As for :func:`generalized_gauss_newton`.
    targets : tensor, optional
        For ``softmax`` the numbers of outcomes, whole numbers of the shape of the output without its last axis; for
        ``gaussian`` the vectors, of the shape of the output. Left out for a language model, whose targets are the next
        tokens.
    output : {'softmax', 'gaussian'}
    variance : float
    unit : {'prediction', 'sample'}
        What an observation is, if a sample holds several predictions: each of them, or the sample, whose loss is the
        sum over its predictions.
    parameters : str, sequence of str, callable, optional
    batch_size : int
    reduction : {'mean', 'sum'}
    differentiation : {'forward', 'double_backward'}
        As for :func:`generalized_gauss_newton`.

    Returns
    -------
    FisherOperator

    Raises
    ------
    ArgumentError, ShapeError, DomainError, ModelError, MissingDependencyError
        As for :func:`generalized_gauss_newton`; also if the targets do not fit the outputs.

    References
    ----------
    .. [1] F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher approximation for natural gradient
       descent, NeurIPS 2019, arXiv 1905.12558.

    Examples
    --------
    >>> import torch
    >>> from infogeo_adapters import empirical_fisher
    >>> linear = torch.nn.Linear(1, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(linear.weight)
    >>> operator = empirical_fisher(linear, torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), reduction="sum")
    >>> operator.to_dense().tolist()
    [[2.5, -2.5], [-2.5, 2.5]]
    """
    require("torch", extra="transformers", caller="empirical_fisher")
    _check_options(output, variance, reduction, differentiation)
    if unit not in ("prediction", "sample"):
        raise ArgumentError(f"unit: found {unit!r}, wanted 'prediction' or 'sample'")
    found, batches = make_batches(module, inputs, targets, check_count("batch_size", batch_size, 1))
    if any(batch.targets is None for batch in batches):
        raise ArgumentError("targets: found none, wanted a tensor; only a LanguageModel has targets of its own")

    def finish(value: torch.Tensor, batch: Batch) -> torch.Tensor:
        losses = _losses(_predictions(value, batch), batch, output, variance)
        return losses.reshape(-1, 1) if unit == "prediction" else losses.reshape(len(losses), -1).sum(1, keepdim=True)

    jacobian = Jacobian(found, choose_parameters(found, parameters), batches, finish, differentiation)
    with jacobian.ready():
        observations = sum(len(rows) for rows in jacobian.outputs())
    return FisherOperator(
        "empirical_fisher", jacobian.names, observations, 1 / observations if reduction == "mean" else 1.0,
        jacobian, output, float(variance),
    )


def natural_gradient(
    operator: FisherOperator, gradient: Any, *, damping: float, tol: float | None = None,
    max_iter: int | None = None,
) -> NaturalGradient:
    r"""Direction :math:`(F + \rho I)^{-1} g` of steepest change in the Fisher metric, by conjugate gradients [1]_.

    Parameters
    ----------
    operator : FisherOperator
    gradient : array or tensor, shape (n,), or mapping of names to tensors
        Gradient of the loss in the chosen parameters, such as ``{name: parameter.grad}``, or
        :meth:`FisherOperator.loss_gradient`.
    damping : float
        The number ρ added to the diagonal, at least 0. Without damping a direction exists only for a gradient that
        the matrix reaches, and the number of iterations may grow.
    tol : float, optional
        How large the residual may be, relative to the gradient; by default 1e-8, and 1e-4 if a chosen parameter has
        fewer digits than float64.
    max_iter : int, optional
        By default 10 n.

    Returns
    -------
    NaturalGradient

    Raises
    ------
    ConvergenceError
        If the residual, computed again after the iteration, exceeds the tolerance; it carries the result.
    ArgumentError, ShapeError, DomainError
        If the gradient does not fit or is not finite, or the damping is negative.

    References
    ----------
    .. [1] S. Amari, Natural gradient works efficiently in learning, Neural Computation 10 (1998) 251-276.

    Examples
    --------
    >>> import torch
    >>> from infogeo_adapters import generalized_gauss_newton, natural_gradient
    >>> linear = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    >>> operator = generalized_gauss_newton(linear, torch.tensor([[2.0]], dtype=torch.float64), output="gaussian")
    >>> round(float(natural_gradient(operator, [8.0], damping=0.0).direction[0]), 9)  # F = 4
    2.0
    """
    if not isinstance(operator, FisherOperator):
        raise ArgumentError(f"operator: found {type(operator).__name__}, wanted a FisherOperator")
    if not (math.isfinite(damping) and damping >= 0):
        raise DomainError(f"damping: found {damping}, wanted a finite number of at least 0")
    from scipy.sparse.linalg import cg

    tolerance = tolerance_for(tol, operator._jacobian)
    b = to_array(as_vector("gradient", gradient, operator._jacobian))
    length = float(np.linalg.norm(b))
    counter = Counter(operator, damping)
    steps: list[FloatArray] = []
    direction, _ = cg(
        counter.operator(), b / (length or 1.0), rtol=tolerance / 2, atol=0.0, callback=steps.append,
        maxiter=max_iter,
    )
    residual = float(np.linalg.norm(counter(direction) - b / length)) if length else 0.0
    result = NaturalGradient(
        direction=direction * length, residual=residual, iterations=len(steps), tolerance=tolerance,
        damping=float(damping), converged=residual <= tolerance,
    )
    if not result.converged:
        raise ConvergenceError(
            f"natural_gradient: after {len(steps)} iterations the residual is {residual:.3g} of the gradient, wanted "
            f"{tolerance:g}; raise the damping (now {damping:g}), the tolerance or max_iter", result,
        )
    return result


# ------------------------------------------------------------------------------------------------------- internals


def _predictions(value: torch.Tensor, batch: Batch) -> torch.Tensor:
    if batch.next_token:
        value = value[:, :-1]
    if value.ndim < 2:
        raise ShapeError(
            f"module: its output has shape {tuple(value.shape)}, wanted (samples, ..., outputs); for one number for "
            "each sample add an axis with unsqueeze(-1)"
        )
    return value


def _losses(value: torch.Tensor, batch: Batch, output: Output, variance: float) -> torch.Tensor:
    """Negative log-likelihood of each prediction, but for constants, (samples, ...)."""
    import torch

    targets = batch.targets
    if targets is None:
        raise ArgumentError("targets: found none, wanted a tensor")
    targets = targets.to(value.device)
    wanted = tuple(value.shape[:-1] if output == "softmax" else value.shape)
    if tuple(targets.shape) != wanted:
        raise ShapeError(f"targets: found shape {tuple(targets.shape)} in a micro-batch, wanted {wanted}")
    if output == "gaussian":
        return ((value - targets) ** 2).sum(-1) / (2 * variance)
    if targets.is_floating_point():
        raise DomainError(f"targets: found dtype {targets.dtype}, wanted whole numbers, the outcomes")
    if bool(((targets < 0) | (targets >= value.shape[-1])).any()):
        raise DomainError(f"targets: found outcomes outside 0 to {value.shape[-1] - 1}; leave those samples out")
    log_probs = torch.log_softmax(value, dim=-1)
    return -log_probs.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)


def _check_options(output: str, variance: float, reduction: str, differentiation: str) -> None:
    for name, value, known in (
        ("output", output, ("softmax", "gaussian")), ("reduction", reduction, ("mean", "sum")),
        ("differentiation", differentiation, ("forward", "double_backward")),
    ):
        if value not in known:
            raise ArgumentError(f"{name}: found {value!r}, wanted {' or '.join(map(repr, known))}")
    if not (math.isfinite(variance) and variance > 0):
        raise DomainError(f"variance: found {variance}, wanted a finite positive number")
