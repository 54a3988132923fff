"""Channels, laws and costs as they are given: read and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo._arrays import Array, detached, requires_gradient, to_numpy
from infogeo._checks import as_floats, check_sums, input_tolerance, together
from infogeo.errors import ArgumentError, DomainError, ShapeError


def as_channel(channel: Any) -> Array:
    """Channel matrices as float64, rows checked; the message names the row and its sum."""
    w = as_floats("channel", channel)
    if w.ndim < 2:
        raise ShapeError(
            f"channel: found shape {tuple(w.shape)}, wanted a matrix (inputs, outputs), one row for each input"
        )
    if 0 in w.shape[-2:]:
        raise ShapeError(f"channel: found shape {tuple(w.shape)}, wanted at least one input and one output")
    try:
        check_probabilities("channel", w, channel)
    except DomainError as error:
        values = to_numpy(w)
        if (values >= 0).all() and np.allclose(values.sum(axis=-2), 1.0, rtol=0, atol=1e-6):
            raise DomainError(f"{error}; its columns sum to one: rows are inputs, so give the transpose") from None
        raise
    return w


def check_probabilities(name: str, values: Array, given: Any) -> None:
    """Raise unless rows are not negative and sum to one, within the rounding of the dtype that was given."""
    plain = to_numpy(values)
    if (plain < 0).any():
        where = tuple(int(i) for i in np.argwhere(plain < 0)[0])
        raise DomainError(f"{name}: entry {where} is {plain[where]}; a probability is not negative")
    check_sums(name, plain.sum(axis=-1), input_tolerance(given))


def with_cost(channel: Array, cost: Any, budget: Any, multiplier: Any) -> tuple[Array, Any, Any, Any]:
    """The channel, and beside it cost, budget and multiplier as numbers of the same library, checked."""
    if cost is None:
        if budget is not None or multiplier is not None:
            which = "budget" if budget is not None else "multiplier"
            raise ArgumentError(f"{which}: found one, but no cost that it belongs to; give cost=, one for each input")
        return channel, None, None, None
    if (budget is None) == (multiplier is None):
        found = "neither" if budget is None else "both"
        raise ArgumentError(f"cost: wanted a budget or a multiplier beside it, found {found}; give one of the two")
    bound, which = (budget, "budget") if budget is not None else (multiplier, "multiplier")
    channel, cost, bound = together(channel=channel, cost=cost, **{which: bound})
    cost, bound = as_floats("cost", cost), as_floats(which, bound)
    n = channel.shape[-2]
    if cost.ndim == 0 or cost.shape[-1] != n:
        raise ShapeError(f"cost: found shape {tuple(cost.shape)}, wanted (..., {n}), one for each input")
    check_batches(channel=channel.shape[:-2], cost=cost.shape[:-1], **{which: bound.shape})
    if which == "multiplier":
        if requires_gradient(cost, bound):
            raise DomainError(
                "found a cost or multiplier that records a gradient, but the capacity at a multiplier is no optimum of "
                "its own, and has no derivative in closed form; give a budget, or detach them"
            )
        if bool((detached(bound) < 0).any()):
            raise DomainError(f"multiplier: found {float(to_numpy(bound).min())}, wanted no number below zero")
        return channel, cost, None, bound
    least = to_numpy(cost).min(axis=-1)
    short = np.broadcast_arrays(to_numpy(bound) < least, least, to_numpy(bound))
    if short[0].any():
        where = tuple(int(i) for i in np.argwhere(short[0])[0])
        raise DomainError(
            f"budget: found {float(short[2][where])}, but the cheapest input costs {float(short[1][where])}, so that "
            "no input law keeps to it; raise the budget"
        )
    return channel, cost, bound, None


def check_batches(**shapes: Any) -> None:
    """Raise unless the leading axes broadcast; the message names whose they are."""
    try:
        np.broadcast_shapes(*(tuple(shape) for shape in shapes.values()))
    except ValueError:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ShapeError(f"the batches do not broadcast: {listed}") from None
