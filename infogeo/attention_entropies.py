"""Entropy of attention, and how low the weights of a head allow it to fall."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, detached, is_tensor, like, namespace, to_numpy
from infogeo._checks import as_floats, as_int_array, beside, check_broadcast, input_tolerance, together
from infogeo._spectra import entr, first_bad, matrices, positive_number
from infogeo._units import Unit, per_nat
from infogeo.errors import DomainError, ShapeError

NEVER = 1e4
"""Norms above it are taken for it: the entropy that they allow is zero in float64 for any number of keys."""


def attention_entropy(
    attention: Any, *, causal: bool = False, relative: bool = False, unit: Unit = "nats"
) -> Array:
    r"""Entropy of the attention of each query.

    .. math:: H_i = -\sum_j A_{ij} \log A_{ij}, \qquad 0 \log 0 = 0

    Between 0 (all on one key) and the logarithm of the number of keys that the query can see; under a causal mask that
    number grows along the text, so that entropies of different queries compare only as a share of it
    (``relative=True``). Nothing is added inside the logarithm: a small number there, as in some training code, counts
    for every key, and biases long contexts. :func:`mean_attention_entropy` averages over queries.

    Parameters
    ----------
    attention : array or tensor, shape (..., T, K)
        Weights of T queries over K keys. Rows sum to one within 1e-9, or the rounding of a coarser dtype (3.8e-6 for
        float32, 0.008 for float16); nothing is renormalized.
    causal : bool
        Query i (from 0) sees the first K - T + i + 1 keys, the usual mask with K - T keys before the first query.
        Weight beyond them is an error.
    relative : bool
        Divided by the logarithm of the number of keys visible; NaN where there is one only, since that query had no
        choice. Then the unit does not matter.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    array or tensor, shape (..., T)
        With gradients where ``attention`` records them; a weight of zero passes none on.

    Raises
    ------
    ShapeError
        If there is no query or key, or with ``causal`` more queries than keys.
    DomainError
        If a weight is negative or not finite, a row does not sum to one (the message has its number and sum), or with
        ``causal`` a query attends to a later key.
    ArgumentError
        If the unit is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25]])
    >>> attention_entropy(maps, unit="bits").round(6).tolist()
    [0.0, 1.0, 1.5]
    >>> attention_entropy(maps, causal=True, relative=True).round(3).tolist()
    [nan, 1.0, 0.946]
    """
    factor = per_nat(unit)
    weights = _attention(attention)
    xp = namespace(weights)
    t, k = weights.shape[-2:]
    seen = _visible(detached(weights), t, k, input_tolerance(attention)) if causal else np.full(t, k)
    value = xp.sum(entr(weights), axis=-1)
    if not relative:
        return value * factor
    most, unknown = np.log(np.maximum(seen, 2)), np.where(seen > 1, 0.0, np.nan)
    return value / like(most, weights) + like(unknown, weights)


def mean_attention_entropy(
    attention: Any, *, causal: bool = False, relative: bool = False, unit: Unit = "nats"
) -> Array:
    """Mean over the queries of :func:`attention_entropy`: one number for each head.

    It falls towards zero where attention collapses onto single keys, as it does in training that becomes unstable [1]_.

    Parameters
    ----------
    attention : array or tensor, shape (..., T, K)
        Weights of T queries over K keys, as :func:`attention_entropy` takes them.
    causal : bool
        Whether a query sees the keys up to its own only.
    relative : bool
        Each query divided by its largest possible entropy before the mean; queries that see one key only are left out.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, shape (...,)

    Raises
    ------
    ShapeError
        If there is no query or key, more queries than keys with ``causal``, or with ``relative`` no query that sees
        two keys.
    DomainError, ArgumentError
        As :func:`attention_entropy`.

    References
    ----------
    .. [1] S. Zhai et al., "Stabilizing transformer training by preventing attention entropy collapse", ICML 2023,
       arXiv:2303.06296, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.25, 0.25]])
    >>> round(float(mean_attention_entropy(maps, causal=True, relative=True)), 3)
    0.973
    """
    value = attention_entropy(attention, causal=causal, relative=relative, unit=unit)
    t, k = value.shape[-1], _shape_of(attention)[-1]
    free = max(0, 2 - (k - t + 1)) if causal else (0 if k > 1 else t)  # leading queries with a single key
    if relative and free:
        if free >= t:
            raise ShapeError(f"attention: found {t} queries over {k} keys, none of which sees two; leave relative out")
        value = value[..., free:]
    return namespace(value).mean(value, axis=-1)


def attention_entropy_lower_bound(sigma: Any, n_keys: ArrayLike, *, unit: Unit = "nats") -> Array:
    r"""Lowest entropy of a softmax over T keys whose logits have Euclidean norm at most sigma.

    .. math::

        H \ge \log(1 + (T - 1)\beta) + \frac{\sigma \sqrt{T (T - 1)}\, \beta}{1 + (T - 1)\beta},
        \qquad \beta = \exp\left(-\sigma \sqrt{\frac{T}{T - 1}}\right)

    Theorem 3.1 of [1]_, where sigma is the product of spectral norms that :func:`attention_logit_norm` computes. The
    bound is reached by :func:`extremal_attention_logits`. For a query that a causal mask lets see T keys it holds with
    that T and the same sigma. A high bound says that attention cannot collapse; a low one does not say that it does.

    Parameters
    ----------
    sigma : float, array or tensor, shape (...,)
        Not negative; the largest norm of a row of logits, after all scaling.
    n_keys : int or array_like of int
        T, at least 1; broadcasts against ``sigma``.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float, array or tensor, of the shape that both broadcast to
        log T at sigma 0, falling towards 0.

    Raises
    ------
    ShapeError
        If ``sigma`` and ``n_keys`` do not broadcast.
    DomainError
        If ``sigma`` is negative or not finite, or ``n_keys`` not whole numbers of at least 1.
    ArgumentError
        If the unit is unknown.

    References
    ----------
    .. [1] S. Zhai et al., "Stabilizing transformer training by preventing attention entropy collapse", ICML 2023,
       arXiv:2303.06296, theorem 3.1.

    Examples
    --------
    >>> attention_entropy_lower_bound([0.0, 1.0, 20.0], 64).round(6).tolist()
    [4.158883, 4.143699, 2e-06]
    """
    factor = per_nat(unit)
    norm, t = _norm_and_keys(sigma, n_keys)
    xp = namespace(norm)
    others = t - 1
    safe = xp.where(others > 0, others, xp.ones_like(others))
    gap = xp.clip(norm, max=NEVER) * xp.sqrt((safe + 1) / safe)
    rest = others * xp.exp(-gap)  # weight of all other keys, relative to the one attended to
    return (xp.log1p(rest) + gap * rest / (1 + rest)) * factor


def extremal_attention_logits(sigma: float, n_keys: int) -> Array:
    r"""Logits of norm sigma over T keys whose softmax has the lowest entropy.

    .. math:: u_1 = \sigma \sqrt{\frac{T - 1}{T}}, \qquad u_2 = \dots = u_T = -\frac{\sigma}{\sqrt{T (T - 1)}}

    They sum to zero, since a constant in the logits would cost norm and change nothing.

    Parameters
    ----------
    sigma : float or tensor
        Norm of the logits, not negative.
    n_keys : int
        T, at least 1; a single key has logit 0.

    Returns
    -------
    array or tensor, shape (T,)

    Raises
    ------
    DomainError
        If ``sigma`` is negative or not finite, or ``n_keys`` less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.entropy import entropy_of_logits
    >>> logits = extremal_attention_logits(2.0, 8)
    >>> round(float(np.linalg.norm(logits)), 12)
    2.0
    >>> bool(abs(entropy_of_logits(logits) - attention_entropy_lower_bound(2.0, 8)) < 1e-15)
    True
    """
    norm, keys = _norm_and_keys(sigma, n_keys)
    if norm.ndim or keys.ndim:
        raise ShapeError(f"found sigma {tuple(norm.shape)} and n_keys {tuple(keys.shape)}, wanted single numbers")
    t = int(keys)
    pattern = np.zeros(t) if t == 1 else np.full(t, -1 / math.sqrt(t * (t - 1)))
    if t > 1:
        pattern[0] = math.sqrt((t - 1) / t)
    return norm * like(pattern, norm)


def attention_logit_norm(
    x: Any, w_query: Any, w_key: Any, *, context: Any = None, scale: float | None = None
) -> Array:
    r"""Bound on the norm of each row of a head's logits, from spectral norms.

    .. math:: \sigma = s \, \|W_Q W_K^\top\|_2 \, \|X\|_2 \, \|C\|_2, \qquad s = \frac{1}{\sqrt{h}}

    of logits :math:`s\, X W_Q (C W_K)^\top`; for self-attention C is X, and :math:`\|X\|_2^2` is the spectral norm of
    :math:`X X^\top` of [1]_, whose logits have no factor s. Put it into :func:`attention_entropy_lower_bound`. It holds
    for heads without position in the product of queries and keys: not for rotary embeddings. A bias fits in as a row of
    ones in x and a row of the matrix.

    Parameters
    ----------
    x : array or tensor, shape (..., T, d)
        What queries are made of (after the normalization in front of the attention).
    w_query : array or tensor, shape (..., d, h)
        Queries are ``x @ w_query``; a torch ``Linear`` holds the transpose.
    w_key : array or tensor, shape (..., d', h)
        Keys are ``context @ w_key``.
    context : array or tensor, shape (..., K, d'), optional
        What keys are made of, for cross-attention; ``x`` if left out.
    scale : float, optional
        s, by which products are multiplied before the softmax; one over the root of h if left out, 1 for none.

    Returns
    -------
    float, array or tensor, shape (...,)
        With gradients where an argument records them.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DomainError
        If an entry is not finite, or the product is out of the range of float64.
    ArgumentError
        If the scale is not positive.

    References
    ----------
    .. [1] S. Zhai et al., "Stabilizing transformer training by preventing attention entropy collapse", ICML 2023,
       arXiv:2303.06296, theorem 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> float(attention_logit_norm(2 * np.eye(3), np.eye(3), np.eye(3), scale=1.0))
    4.0
    """
    given = {"x": x, "w_query": w_query, "w_key": w_key, "context": x if context is None else context}
    parts = {name: matrices(name, value) for name, value in zip(given, together(**given), strict=True)}
    x, query, key, context = parts.values()
    h = query.shape[-1]
    if x.shape[-1] != query.shape[-2] or context.shape[-1] != key.shape[-2] or h != key.shape[-1]:
        shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items())
        raise ShapeError(
            f"found {shapes}; wanted x (..., T, d), w_query (..., d, h), context (..., K, d'), w_key (..., d', h): "
            "the matrices of a torch Linear must be transposed"
        )
    factor = 1 / math.sqrt(h) if scale is None else positive_number("scale", scale)
    xp = namespace(x)
    check_broadcast(**{name: part[..., 0, 0] for name, part in parts.items()})
    with np.errstate(over="ignore", invalid="ignore"):
        product = query @ xp.matrix_transpose(key)
        if xp.isfinite(detached(product)).all():
            norm = factor * _spectral_norm(product) * _spectral_norm(x) * _spectral_norm(context)
            if xp.isfinite(detached(norm)).all():
                return norm
    raise DomainError("attention_logit_norm: the product of the norms is out of the range of float64; scale x down")


def _shape_of(value: Any) -> tuple[int, ...]:
    """Shape of an array, a tensor or a nested list."""
    return tuple(value.shape) if is_tensor(value) else np.shape(value)


def _spectral_norm(x: Array) -> Array:
    return namespace(x).linalg.svdvals(x)[..., 0]


def _attention(value: Any) -> Array:
    """Weights (..., T, K) whose rows sum to one, or an error with the row and its sum."""
    weights = matrices("attention", value)
    plain, tolerance = detached(weights), input_tolerance(value)
    negative = plain < 0
    if negative.any():
        where = first_bad(negative)
        raise DomainError(f"attention: entry {where} is {float(to_numpy(plain)[where]):g}; a weight is not negative")
    total = namespace(plain).sum(plain, axis=-1)
    bad = abs(total - 1) > tolerance
    if bad.any():
        where = first_bad(bad)
        row = f"row {where[0] if len(where) == 1 else where}"
        raise DomainError(
            f"attention: the weights of {row} sum to {float(to_numpy(total)[where]):.12g}, wanted 1 within "
            f"{tolerance:.2g}; leave padded queries out, and capture without dropout (model.eval())"
        )
    return weights


def _visible(weights: Array, t: int, k: int, tolerance: float) -> Any:
    """(T,) keys that each query sees under a causal mask; an error where it sees more."""
    if t > k:
        raise ShapeError(f"attention: found {t} queries over {k} keys; a causal mask needs at least as many keys")
    seen = k - t + 1 + np.arange(t)
    later = like(np.arange(k) >= seen[:, None], weights) & (weights > tolerance)
    if later.any():
        where = first_bad(later)
        raise DomainError(
            f"attention: entry {where} is {float(to_numpy(weights)[where]):g}, weight on a key after the query; this "
            "attention is not causal"
        )
    return seen


def _norm_and_keys(sigma: Any, n_keys: ArrayLike) -> tuple[Array, Array]:
    norm = as_floats("sigma", sigma)
    negative = detached(norm) < 0
    if negative.any():
        raise DomainError("sigma: found a negative number; a norm is not negative")
    keys = as_int_array("n_keys", n_keys)
    if (keys < 1).any():
        raise DomainError(f"n_keys: found {keys.min()}, wanted at least 1")
    check_broadcast(sigma=norm, n_keys=keys)
    return norm, beside("n_keys", keys, norm)
