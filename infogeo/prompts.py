"""Entropy of the token vectors of a prompt, and of the prompts of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from infogeo._arrays import Array, detached, namespace
from infogeo._checks import together
from infogeo._spectra import (
    centered,
    check_order,
    collision_entropy,
    matrices,
    renyi_of_eigenvalues,
    small_gram,
    unit_rows,
)
from infogeo._units import Unit, per_nat
from infogeo.errors import ShapeError


def prompt_entropy(x: Any, *, alpha: float = 1.0, relative: bool = False, unit: Unit = "nats") -> Array:
    r"""Matrix-based entropy of the token vectors of a prompt.

    The mean token is taken off, each row is divided by its length, and the entropy of the Gram matrix follows:

    .. math:: S_\alpha(Z Z^\top / n), \qquad z_i = \frac{x_i - \bar{x}}{\|x_i - \bar{x}\|}

    as :func:`matrix_renyi_entropy` has it, from the smaller of the two Gram matrices. Between 0 and log min(n, d)
    [1]_. Centered; unchanged when ``x`` is scaled or moved.

    Parameters
    ----------
    x : array or tensor, shape (..., n, d)
        Vectors of the tokens; at least two.
    alpha : float
        The order, positive; 1 is von Neumann's entropy.
    relative : bool
        Divided by its largest value, log min(n, d), so that prompts of different lengths can be compared; then the
        unit does not matter.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two rows, no column, or with ``relative`` fewer than two columns.
    DomainError
        If an entry is not finite, all rows are equal, or a row equals the mean.
    ArgumentError
        If the order is not positive, or the unit unknown.

    References
    ----------
    .. [1] O. Skean et al., "Layer by layer: uncovering hidden representations in language models", ICML 2025,
       arXiv:2502.02013, prompt entropy. Their code sets negative entries of the Gram matrix to zero, which
       makes another number of it; here they stay.

    Examples
    --------
    >>> x = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    >>> round(float(prompt_entropy(x, unit="bits")), 12), round(float(prompt_entropy(x, relative=True)), 12)
    (1.0, 1.0)
    """
    order, factor = check_order(alpha), per_nat(unit)
    return _entropy_of_directions("x", matrices("x", x, rows=2), order, factor, relative=relative)


def dataset_entropy(
    prompts: Sequence[Any], *, alpha: float = 1.0, relative: bool = False, unit: Unit = "nats"
) -> Array:
    r"""Matrix-based entropy of the mean vectors of many prompts.

    Each prompt is the mean of its token vectors; then as :func:`prompt_entropy`, with prompts in place of tokens [1]_:
    how different the prompts are from each other, where prompt entropy says how different tokens are within one.

    Parameters
    ----------
    prompts : sequence of array or tensor, each of shape (..., T, d)
        Token vectors of each prompt, T its own length; leading axes (layers) the same for all. At least two prompts.
    alpha : float
        The order, positive; 1 is von Neumann's entropy.
    relative : bool
        Divided by its largest value, the logarithm of min(number of prompts, d).
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there are fewer than two prompts, or their shapes differ in more than T.
    DomainError
        If an entry is not finite, or prompts have equal means.
    ArgumentError
        If the order is not positive, or the unit unknown.

    References
    ----------
    .. [1] O. Skean et al., "Layer by layer: uncovering hidden representations in language models", ICML 2025,
       arXiv:2502.02013, dataset entropy.

    Examples
    --------
    >>> prompts = [[[2.0, 0.0], [0.0, 0.0]], [[-1.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.0]]]
    >>> round(float(dataset_entropy(prompts, unit="bits")), 12)
    1.0
    """
    order, factor = check_order(alpha), per_nat(unit)
    if not isinstance(prompts, Iterable):
        raise ShapeError(f"prompts: found {prompts!r}, wanted a sequence of arrays, one for each prompt")
    named = together(**{f"prompt_{i}": prompt for i, prompt in enumerate(prompts)})
    parts = [matrices(f"prompt {i}", prompt) for i, prompt in enumerate(named)]
    shapes = {(*part.shape[:-2], part.shape[-1]) for part in parts}
    if len(parts) < 2 or len(shapes) > 1:
        found = f"{len(parts)} prompts" if len(parts) < 2 else f"shapes {[tuple(part.shape) for part in parts][:5]}"
        raise ShapeError(f"prompts: found {found}, wanted at least two of shape (..., T, d), alike but for T")
    xp = namespace(*parts)
    means = xp.stack([xp.mean(part, axis=-2) for part in parts], axis=-2)
    return _entropy_of_directions("means of the prompts", means, order, factor, relative=relative)


def _entropy_of_directions(name: str, x: Array, alpha: float, factor: float, *, relative: bool) -> Array:
    most = math.log(min(x.shape[-2:]))
    if relative and most == 0:
        raise ShapeError(f"{name}: found shape {tuple(x.shape)}; relative=True needs at least two rows and columns")
    rows = unit_rows(name, _rounded_off(centered(name, x)), reason="is the mean of the rows")
    xp = namespace(rows)
    gram = small_gram(rows) / rows.shape[-2]
    value = collision_entropy(gram) if alpha == 2 else renyi_of_eigenvalues(xp.linalg.eigvalsh(gram), alpha)
    return value / most if relative else value * factor


def _rounded_off(rows: Array) -> Array:
    """Rows of nothing but what subtracting the mean rounds to, set to zero."""
    xp = namespace(rows)
    return xp.where(xp.max(xp.abs(detached(rows)), axis=-1, keepdims=True) > 1e-14, rows, xp.zeros_like(rows))
