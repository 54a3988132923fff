"""An attention head as the discrete channel from query to key that its row-stochastic matrix is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_array, as_float_array, group_numbers, input_tolerance
from infogeo._units import Unit, per_nat
from infogeo.capacity._samples import check_level, mean_interval, warn_all
from infogeo.capacity.discrete import blahut_arimoto, channel_information
from infogeo.capacity.results import LayerCapacity
from infogeo.errors import ArgumentError, DomainError, ShapeError


def attention_capacity(
    maps: Sequence[ArrayLike],
    *,
    causal: bool,
    outside: bool = False,
    groups: ArrayLike | None = None,
    tol: float = 1e-9,
    level: float = 0.95,
    unit: Unit = "nats",
) -> LayerCapacity | list[LayerCapacity]:
    r"""Capacity of attention heads, each seen as the channel from query to key that its matrix is.

    .. math:: C = \max_p \sum_{ij} p_i A_{ij} \log \frac{A_{ij}}{\sum_k p_k A_{kj}}, \qquad
              R = C\text{'s information at } p_i = 1/T

    averaged over texts. If a query sends one look at a key, drawn from its row, C is how much the place of the look
    tells about the place of the query at best, and R how much it tells when all queries are alike likely: the
    Jensen-Shannon divergence of the rows.

    Choose this view to see whether a head looks at different places for different queries: C is zero if and only if
    all rows are equal, and at its ceiling, the logarithm of the number of keys (or queries, if fewer), if each query
    has keys of its own. It needs no noise beside the head's own spread. It is about where a head looks, not about what
    is moved: values and the output projection are not in it.

    In a causal head the mask alone makes rows differ: the head that looks at all visible keys alike has a high
    capacity already. So its capacity and rate are in ``details`` as ``uniform_capacity`` and ``uniform_rate``, for the
    same lengths; compare with them. The information that a head adds to the mask is not the difference, since the
    uniform head is not a part of every head.

    Parameters
    ----------
    maps : sequence of array_like, shape (T, K) or (..., T, K)
        One entry for each text; rows are queries and sum to one. Leading axes are heads, of the same number in all
        texts, while T and K may differ.
    causal : bool
        True if query i sees keys 0 to i + K - T only; checked.
    outside : bool
        For maps of which keys were dropped (a sink, special tokens), so that rows sum to less than one: count what is
        missing as looking at one more key, the outside. By default such rows are refused.
    groups : array_like, shape (texts,), optional
        For texts that depend on each other, such as windows of one document.
    tol : float
        Largest gap of the certificate, in ``unit``.
    level : float
        Coverage of the interval of the mean over texts.
    unit : {"nats", "bits"}

    Returns
    -------
    LayerCapacity, or list of LayerCapacity
        A list where the maps have leading axes, in their order. ``ceiling`` is the mean over texts of the logarithm of
        the smaller of T and K. ``details`` holds the capacity and rate of each text, the mean of ``log_visible`` (of
        the logarithm of visible keys over queries), the certified gap, and the uniform head's numbers.

    Raises
    ------
    DomainError
        An entry is negative or not finite, a row does not sum to one, a causal map looks ahead.
    ShapeError
        No texts, no matrix, an empty one, or heads differ between texts.
    ConvergenceError
        The gap stays above ``tol``.

    Warns
    -----
    EstimateWarning
        There is one text only, so no interval.

    References
    ----------
    .. [1] C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948.

    Examples
    --------
    >>> looks_back = np.eye(4)[[0, 0, 1, 2]]
    >>> everywhere = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    >>> found = attention_capacity([looks_back, everywhere], causal=True, unit="bits")
    >>> [round(float(c), 4) for c in found.details["capacities"]], found.ceiling
    ([1.585, 0.5884], 2.0)
    >>> round(found.details["uniform_capacity"], 4)
    0.5884
    """
    factor = per_nat(unit)
    level = check_level(level)
    for name, flag in (("causal", causal), ("outside", outside)):
        if not isinstance(flag, bool | np.bool_):
            raise ArgumentError(f"{name}: found {flag!r}, wanted True or False")
    if isinstance(maps, str) or not hasattr(maps, "__len__") or len(maps) == 0:
        raise ShapeError("maps: found no text, wanted a sequence with one array (..., queries, keys) for each text")
    shape = tuple(getattr(maps, "shape", ()))
    if len(shape) > 3:
        raise ShapeError(
            f"maps: found one array of shape {shape}, wanted a sequence with one entry for each text, and "
            "its axes could be texts, blocks or heads; for one text give [activations.attention] (all blocks and "
            "heads) or [activations.attention[block - 1]]"
        )
    read = [_read(i, value, causal=causal, outside=outside) for i, value in enumerate(maps)]
    heads = read[0].shape[:-2]
    for i, found in enumerate(read):
        if found.shape[:-2] != heads:
            raise ShapeError(f"maps: text {i} has heads {found.shape[:-2]}, text 0 has {heads}; wanted the same")
    number = group_numbers(groups, len(read))
    capacities, rates, gap = _channels(read, tol / factor)
    sizes = [(m.shape[-2], m.shape[-1] - outside) for m in read]
    seen = [_visible(t, k, causal) for t, k in sizes]
    ceiling = float(np.mean([np.log(min(t, k + outside)) for t, k in sizes]))
    details = {
        "causal": causal,
        "outside": outside,
        "queries": [t for t, _ in sizes],
        "keys": [k for _, k in sizes],
        "gap": factor * gap,
        "log_visible": factor * float(np.mean([np.log(s).mean() for s in seen])),
    }
    if causal:
        uniform = {size: (np.arange(size[1]) < s[:, None]) / s[:, None] for size, s in zip(sizes, seen, strict=True)}
        best, even, _ = _channels([uniform[size] for size in sizes], tol / factor)
        details |= {"uniform_capacity": factor * float(best.mean()), "uniform_rate": factor * float(even.mean())}
    messages = []
    if int(number.max()) == 0:
        messages.append("there is one text only, so no interval; give several")
    said = warn_all(messages, stacklevel=2)

    def result(c: FloatArray, r: FloatArray, name: str) -> LayerCapacity:
        interval = mean_interval(factor * c, number, level)
        return LayerCapacity(
            view="attention",
            name=name,
            capacity=factor * float(c.mean()),
            rate=factor * float(r.mean()),
            capacity_interval=interval,
            rate_interval=mean_interval(factor * r, number, level),
            level=None if interval is None else level,
            ceiling=factor * ceiling,
            unit=unit,
            noise="the head's own: a key is drawn from the query's row",
            constraint="one query, of any law for the capacity, uniform for the rate",
            n=len(read),
            warnings=said,
            details={**details, "capacities": factor * c, "rates": factor * r},
        )

    if not heads:
        return result(capacities[:, 0], rates[:, 0], "")
    names = [f"head {', '.join(str(i + 1) for i in place)}" for place in np.ndindex(*heads)]
    return [result(capacities[:, h], rates[:, h], name) for h, name in enumerate(names)]


def _read(text: int, value: ArrayLike, *, causal: bool, outside: bool) -> FloatArray:
    """Checked maps of one text, with the outside as last key if asked for."""
    name = f"maps[{text}]"
    array = as_float_array(name, as_array(name, value))
    if array.ndim < 2 or 0 in array.shape:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., queries, keys), none of them empty")
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise DomainError(f"{name}: entry {where} is {array[where]:.4g}; attention is not negative")
    t, k = array.shape[-2:]
    if causal:
        if k < t:
            raise ShapeError(f"{name}: found {t} queries and {k} keys; a causal head has at least as many keys")
        ahead = np.arange(k) > np.arange(t)[:, None] + (k - t)
        if (array[..., ahead] > 0).any():
            where = tuple(int(i) for i in np.argwhere((array > 0) & ahead)[0])
            raise DomainError(
                f"{name}: entry {where} is {array[where]:.4g}, but a causal query looks at no later key; give "
                "causal=False for an encoder or for cross attention"
            )
    total = array.sum(axis=-1)
    tolerance = input_tolerance(value)
    bad = total > 1 + tolerance if outside else np.abs(total - 1) > tolerance
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        remedy = "" if total[where] > 1 else (
            "; if keys were dropped, give outside=True to count what is missing as one more key, or keep all keys"
        )
        raise DomainError(
            f"{name}: row {where if len(where) > 1 else where[0]} sums to {total[where]:.12g}, wanted "
            f"{'at most ' if outside else ''}1 within {tolerance:.2g}{remedy}"
        )
    if outside:
        missing = 1 - total
        array = np.concatenate([array, np.where(missing > tolerance, missing, 0.0)[..., None]], axis=-1)
    return np.asarray(array / array.sum(axis=-1, keepdims=True))  # takes the rounding of the number format only


def _visible(t: int, k: int, causal: bool) -> FloatArray:
    """Number of keys that each query sees."""
    return np.arange(k - t + 1, k + 1, dtype=np.float64) if causal else np.full(t, float(k))


def _channels(maps: list[FloatArray], tol: float) -> tuple[FloatArray, FloatArray, float]:
    """Capacities and rates (texts, heads) in nats, texts of one shape in one batch, and the largest gap."""
    flat = [m.reshape(-1, *m.shape[-2:]) for m in maps]
    capacities = np.empty((len(flat), len(flat[0])))
    rates = np.empty_like(capacities)
    gap = 0.0
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, m in enumerate(flat):
        by_shape.setdefault(m.shape, []).append(i)
    for places in by_shape.values():
        stack = np.stack([flat[i] for i in places])
        found = blahut_arimoto(stack, tol=tol)
        capacities[places] = found.lower
        rates[places] = channel_information(stack)
        gap = max(gap, float(np.max(found.upper - found.lower)))
    return capacities, rates, gap

