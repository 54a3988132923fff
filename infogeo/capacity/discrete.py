"""Capacity of discrete memoryless channels, with and without a cost, between bounds that prove it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from infogeo._arrays import Array, detached, is_tensor, namespace, to_numpy, with_gradients
from infogeo._checks import as_floats, check_count, check_number, together
from infogeo._units import Unit, per_nat
from infogeo.capacity import _budget, _iterations, _newton
from infogeo.capacity._channel_input import as_channel, check_batches, check_probabilities, with_cost
from infogeo.capacity._program import Program, Solution
from infogeo.capacity.results import CapacityResult
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError

Solver = Literal["newton", "blahut_arimoto", "accelerated"]
STEPS = {"newton": 200, "blahut_arimoto": 100_000, "accelerated": 10_000}
"""Most iterations of each solver, by default."""
LEAST_COST = float(np.finfo(np.float64).tiny)
"""Of an input that is not among the cheapest, as a share of the largest difference."""


def blahut_arimoto(
    channel: Any,
    *,
    cost: Any = None,
    budget: Any = None,
    multiplier: Any = None,
    solver: Solver = "newton",
    tol: float = 1e-10,
    max_iter: int | None = None,
    strict: bool = True,
    unit: Unit = "nats",
) -> CapacityResult:
    r"""Capacity of a discrete memoryless channel, or of a stack of them.

    .. math:: C = \max_p I(p, W), \qquad I(p, W) = \sum_x p_x D(W_x \| pW), \qquad
              D(W_x \| q) = \sum_y W_{xy} \log \frac{W_{xy}}{q_y}

    and with a cost b of the inputs, the capacity-cost function :math:`C(B) = \max I(p, W)` over the laws with
    :math:`\sum_x p_x b_x \le B`. Every answer comes with the bracket of Arimoto and Blahut [1]_, [2]_,

    .. math:: \sum_x p_x D_x \;\le\; C(B) \;\le\; \max_x (D_x - s b_x) + s B \qquad (s \ge 0)

    which proves it whatever way it was found.

    The default solver is an interior-point method of Newton's kind: some ten steps for every channel, while the
    iteration the function is named after slows down without limit on inputs that carry no weight in the end. That
    iteration and one with longer steps [3]_ can be chosen to compare; the bracket decides in all three when to stop.

    Parameters
    ----------
    channel : array or tensor, shape (..., n, m)
        Rows are inputs, :math:`W_{xy} = p(y|x)`; each sums to one (within the rounding of its number format; nothing
        is renormalized, and the bounds are good to the error of the sums). A tensor gives tensors.
    cost : array_like, shape (n,) or (..., n), optional
        Finite costs of the inputs. Needs ``budget`` or ``multiplier``.
    budget : array_like, shape (...,), optional
        Largest mean cost B; several budgets for one channel are a batch.
    multiplier : array_like, shape (...,), optional
        In place of a budget, the price s of the cost, not negative, in ``unit`` per unit of cost: the point of the
        capacity-cost function whose slope is s.
    solver : {"newton", "blahut_arimoto", "accelerated"}
    tol : float
        Largest gap between the bounds, in ``unit``.
    max_iter : int, optional
        Most iterations; by default 200, 100,000 and 10,000 for the three solvers.
    strict : bool
        Raise if a channel's gap stays above ``tol``; with False it comes back with ``converged`` False.
    unit : {"nats", "bits"}
        Of the capacity, ``tol`` and ``multiplier``.

    Returns
    -------
    CapacityResult
        ``lower`` and ``upper``, the laws of input and output, ``iterations``, ``converged``. From a channel that
        records gradients ``lower`` does, too, with the derivative :math:`\partial C / \partial W_{xy} = p_x \log
        (W_{xy} / q_y)` of the envelope theorem [4]_ (up to a constant for each row, since rows sum to one; zero where
        :math:`W_{xy} = 0`, where the true one is infinite). Budgets, and costs beside them, take part. With a
        multiplier it is the derivative at a fixed mean cost, and cost and multiplier may not record gradients.

    Raises
    ------
    DomainError
        A probability is negative or not finite, a row does not sum to one, no law keeps to the budget, or costs (times
        the multiplier) differ by more than float64 holds.
    ShapeError
        The channel is no matrix or is empty, or shapes do not fit.
    ArgumentError
        An argument has no such value, or a cost comes without its budget.
    ConvergenceError
        The gap stays above ``tol``; carries the result.

    Notes
    -----
    A step costs about n m min(n, m) operations, so 1000 inputs and outputs take half a second. Batches are worked off
    in chunks whose matrices hold at most 256 MiB.

    References
    ----------
    .. [1] S. Arimoto, "An algorithm for computing the capacity of arbitrary discrete memoryless channels", IEEE
       Transactions on Information Theory 18, 1972.
    .. [2] R. Blahut, "Computation of channel capacity and rate-distortion functions", IEEE Transactions on Information
       Theory 18, 1972.
    .. [3] G. Matz, P. Duhamel, "Information geometric formulation and interpretation of accelerated Blahut-Arimoto-type
       algorithms", IEEE Information Theory Workshop 2004.
    .. [4] P. Milgrom, I. Segal, "Envelope theorems for arbitrary choice sets", Econometrica 70, 2002.

    Examples
    --------
    >>> z_channel = [[1.0, 0.0], [0.5, 0.5]]
    >>> found = blahut_arimoto(z_channel, unit="bits")
    >>> round(float(found.capacity), 9), found.input_probs.round(6).tolist()
    (0.321928095, [0.6, 0.4])
    >>> bool(found.upper - found.lower < 1e-10)
    True
    >>> symmetric = [[0.9, 0.1], [0.1, 0.9]]
    >>> blahut_arimoto(symmetric, cost=[0, 1], budget=[0.1, 0.3, 0.5], unit="bits").capacity.round(4).tolist()
    [0.2111, 0.4558, 0.531]
    """
    factor = per_nat(unit)
    if not isinstance(solver, str) or solver not in STEPS:
        raise ArgumentError(f"solver: found {solver!r}, wanted one of {', '.join(STEPS)}")
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a number above zero")
    max_iter = check_count("max_iter", STEPS[solver] if max_iter is None else max_iter, 1)
    given = as_channel(channel)
    given, cost, budget, multiplier = with_cost(given, cost, budget, multiplier)
    program, batch, scale = _program(given, cost, budget, None if multiplier is None else multiplier / factor)
    eased, copied = _without_costly_inputs(program)
    with np.errstate(all="ignore"):
        if solver == "newton":
            found = _by_newton(eased, tol=tol / factor, max_iter=max_iter)
        else:
            found = _iterations.solve(eased, tol=tol / factor, max_iter=max_iter, accelerated=solver == "accelerated")
        if copied is not None:
            found = replace(found, p=_weight_moved(found.p, *copied))
            found = replace(found, price=_price_of_leaving(program, found))
    result = _result(given, program, found, batch, cost=cost, budget=budget, multiplier=multiplier, factor=factor,
                     scale=scale, tol=tol, solver=solver, unit=unit)
    bad = ~np.asarray(to_numpy(result.converged))
    if strict and bad.any():
        gaps = np.asarray(to_numpy(result.upper - result.lower))
        raise ConvergenceError(
            f"blahut_arimoto: after {int(np.max(found.iterations))} iterations of solver {solver!r} {int(bad.sum())} "
            f"of {bad.size} channels have a gap above {tol:.3g} {unit} (the largest is {float(gaps.max()):.3g}); raise "
            "tol or max_iter, choose solver='newton', or take the bounds with strict=False",
            result,
        )
    return result


def channel_information(channel: Any, input_probs: Any = None, *, unit: Unit = "nats") -> Array:
    r"""Information that a discrete channel carries at a given input law.

    .. math:: I(p, W) = \sum_x p_x D(W_x \| pW)

    At the uniform law it is the Jensen-Shannon divergence of the rows.

    Parameters
    ----------
    channel : array or tensor, shape (..., n, m)
        Rows are inputs and sum to one.
    input_probs : array_like, shape (n,) or (..., n), optional
        Sums to one; uniform by default.
    unit : {"nats", "bits"}

    Returns
    -------
    array or tensor, shape (...,)

    Raises
    ------
    DomainError
        A probability is negative or not finite, or a row does not sum to one.
    ShapeError
        Shapes do not fit.

    Examples
    --------
    >>> float(channel_information([[1.0, 0.0], [0.5, 0.5]], [0.6, 0.4], unit="bits").round(9))
    0.321928095
    """
    factor = per_nat(unit)
    w = as_channel(channel)
    n = w.shape[-2]
    if input_probs is None:
        p = namespace(w).ones_like(w[..., 0]) / n
    else:
        w, p = together(channel=w, input_probs=input_probs)
        p = as_floats("input_probs", p)
        if p.ndim == 0 or p.shape[-1] != n:
            raise ShapeError(f"input_probs: found shape {tuple(p.shape)}, wanted (..., {n}), one for each input")
        check_probabilities("input_probs", p, input_probs)
        check_batches(channel=w.shape[:-2], input_probs=p.shape[:-1])
    xp = namespace(w)
    q = xp.matmul(p[..., None, :], w)[..., 0, :]
    # logarithms of what is positive only, so that gradients stay finite
    ratio = xp.where(w > 0, w, 1.0) / xp.where((w > 0) & (q[..., None, :] > 0), q[..., None, :], 1.0)
    divergence = xp.sum(xp.where(w > 0, w * xp.log(ratio), 0.0), axis=-1)
    return factor * xp.sum(p * divergence, axis=-1)


def _by_newton(program: Program, *, tol: float, max_iter: int) -> Solution:
    """Newton's method; where a budget makes it stall, Newton's method at one price of the cost after another."""
    found = _newton.solve(program, tol=tol, max_iter=max_iter)
    stalled = found.upper - found.lower > tol
    if program.cost is None or not bool(stalled.any()):
        return found
    again = _budget.solve(program.part(stalled), tol=tol, max_iter=max_iter)
    for name in ("p", "price", "lower", "upper"):
        getattr(found, name)[stalled] = getattr(again, name)
    found.iterations[to_numpy(stalled)] += again.iterations
    return found


def _without_costly_inputs(program: Program) -> tuple[Program, tuple[Array, Array] | None]:
    """Where the budget allows the cheapest inputs only, all others replaced by copies of one of those.

    There is no interior then to start from, and copies do no harm. Also: which inputs were replaced, (k, n), and by
    which one, (k, n) with a one at its place.
    """
    if program.cost is None or not bool((program.budget <= 0).any()):
        return program, None
    xp = namespace(program.channel)
    costly = (program.cost > 0) & (program.budget <= 0)[:, None]
    places = xp.arange(program.cost.shape[1]) if not is_tensor(costly) else xp.arange(
        program.cost.shape[1], device=costly.device)
    model = xp.astype(places[None, :] == xp.argmin(program.cost, axis=-1)[:, None], program.channel.dtype)
    row = xp.matmul(model[:, None, :], program.channel)
    gain = xp.sum(model * program.gains, axis=-1)[:, None]
    eased = replace(
        program, channel=xp.where(costly[:, :, None], row, program.channel),
        gains=xp.where(costly, gain, program.gains), cost=xp.where(costly, 0.0, program.cost),
        budget=xp.where(program.budget <= 0, 1.0, program.budget),
    )
    return eased, (costly, model)


def _weight_moved(p: Array, costly: Array, model: Array) -> Array:
    """The law with the weight of replaced inputs given to the one that stood for them."""
    xp = namespace(p)
    moved = xp.sum(xp.where(costly, p, 0.0), axis=-1)[:, None]
    return xp.where(costly, 0.0, p) + moved * model


def _price_of_leaving(program: Program, found: Solution) -> Array:
    """(k,) prices, where the budget allows the cheapest inputs only: the least at which no other input is worth it.

    It is the slope of the capacity-cost function at its left end: infinite where another input reaches outputs that
    the cheapest ones do not.
    """
    xp = namespace(found.p)
    q = program.output(found.p)
    new = xp.matmul(program.channel, xp.astype(q == 0, q.dtype)[:, :, None])[:, :, 0] > 0
    worth = xp.where(new, math.inf, program.slopes(q) - found.upper[:, None])
    costly = program.cost > 0
    needed = xp.max(xp.where(costly, worth / xp.where(costly, program.cost, 1.0), 0.0), axis=-1)
    return xp.where(program.budget <= 0, xp.where(needed > 0, needed, 0.0), found.price)


def _program(channel: Array, cost: Any, budget: Any, multiplier: Any) -> tuple[Program, tuple[int, ...], Any]:
    """The flat batch, under a budget with the cost scaled to 0..1; the batch's shape, and that scale."""
    w = detached(channel)
    xp = namespace(w)
    n, m = w.shape[-2:]
    parts = [tuple(w.shape[:-2])]
    if cost is not None:
        parts += [tuple(cost.shape[:-1]), tuple((budget if budget is not None else multiplier).shape)]
    batch = np.broadcast_shapes(*parts)
    flat = xp.reshape(xp.broadcast_to(w, (*batch, n, m)), (math.prod(batch), n, m))
    gains = xp.sum(xp.where(flat > 0, flat * xp.log(xp.where(flat > 0, flat, 1.0)), 0.0), axis=-1)
    if cost is None:
        return Program(channel=flat, gains=gains), batch, None
    b = xp.reshape(xp.broadcast_to(detached(cost), (*batch, n)), (math.prod(batch), n))
    with np.errstate(over="ignore"):
        least, above = xp.min(b, axis=-1), _above_least(b)
        if multiplier is not None:
            above = xp.reshape(xp.broadcast_to(detached(multiplier), batch), (math.prod(batch), 1)) * above
        if not bool(xp.isfinite(above).all()):
            raise DomainError(
                f"cost: the costs{'' if multiplier is None else ', times the multiplier,'} differ by more than float64 "
                "holds; give them in a larger unit"
            )
        if multiplier is not None:
            return Program(channel=flat, gains=gains - above), batch, None
        scale = xp.max(above, axis=-1)
        scale = xp.where(scale > 0, scale, 1.0)
        scaled = above / scale[:, None]
        # what costs more than the cheapest input must not come out as free
        scaled = xp.where((above > 0) & (scaled < LEAST_COST), LEAST_COST, scaled)
        room = (xp.reshape(xp.broadcast_to(detached(budget), batch), (math.prod(batch),)) - least) / scale
        room = xp.where(room < 2, room, 2.0)  # a budget above every cost binds nobody
    return Program(channel=flat, gains=gains, cost=scaled, budget=room), batch, scale


def _above_least(cost: Array) -> Array:
    """(..., n) costs less the least one, so that large costs that differ little leave the information its digits."""
    return cost - namespace(cost).min(cost, axis=-1)[..., None]


def _result(
    channel: Array, program: Program, found: Solution, batch: tuple[int, ...], *, cost: Any, budget: Any,
    multiplier: Any, factor: float, scale: Any, tol: float, solver: str, unit: Unit,
) -> CapacityResult:
    xp = namespace(found.p)
    n, m = program.channel.shape[-2:]
    p = xp.reshape(found.p, (*batch, n))
    q = xp.reshape(program.output(found.p), (*batch, m))
    lower, upper = xp.reshape(found.lower, batch), xp.reshape(found.upper, batch)
    spent = price = None
    if cost is not None:
        b = detached(cost)
        spent = xp.sum(p * b, axis=-1)
        if budget is None:
            price = xp.broadcast_to(detached(multiplier), batch)
            paid = detached(multiplier) * xp.sum(p * _above_least(b), axis=-1) / factor
            lower, upper = lower + paid, upper + paid
        else:
            with np.errstate(over="ignore"):
                price = xp.reshape(found.price / scale, batch) * factor
    converged = (upper - lower) * factor <= tol * (1 + 1e-12)
    lower, upper = lower * factor, upper * factor
    lower = _with_envelope(channel, cost, budget, lower, p, q, price, factor)
    iterations = np.reshape(found.iterations, batch)
    return CapacityResult(
        lower=lower, upper=upper, unit=unit, input_probs=p, output_probs=q, cost=spent, multiplier=price,
        iterations=iterations if batch else int(iterations), converged=converged if batch else bool(converged),
        tol=tol, solver=solver,
    )


def _with_envelope(
    channel: Array, cost: Any, budget: Any, lower: Array, p: Array, q: Array, price: Any, factor: float
) -> Array:
    """The capacity with its first derivatives to the channel, the cost and the budget, where they are recorded."""
    if not is_tensor(lower):
        return lower
    xp = namespace(lower)
    w = detached(channel)
    ratio = xp.where(w > 0, w, 1.0) / xp.where((w > 0) & (q[..., None, :] > 0), q[..., None, :], 1.0)
    parts = [(channel, factor * p[..., :, None] * xp.where(w > 0, xp.log(ratio), 0.0))]
    if budget is not None:
        parts += [(cost, xp.where(p > 0, -price[..., None] * p, 0.0)), (budget, price)]
    return with_gradients(lower, *parts)
