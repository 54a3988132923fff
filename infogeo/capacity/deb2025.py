"""The published recipe for the capacity of a layer, kernel densities on a grid, which measures its bandwidth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_float_array, check_count, check_number
from infogeo._units import Unit, per_nat
from infogeo.capacity._samples import warn_all
from infogeo.capacity.discrete import blahut_arimoto, channel_information
from infogeo.capacity.results import LayerCapacity
from infogeo.errors import ArgumentError, DomainError, ShapeError

BANDWIDTHS = np.linspace(0.005, 1.0, 200)
"""Those that cross-validation chooses from."""

FOLDS = 5
"""Of the cross-validation, in order of the entries."""

ENTRIES = 1_000_000
"""Squared distances held at a time."""

LEAST_MASS = 1e-250
"""A row of the grid with less mass has no sample near it, and no conditional law."""


AT_AN_END = (
    "cross-validation chose the {end} bandwidth there is, {bandwidth:.4g}, so a {further} one would be likelier; "
    "rescale x and y to deviations of about one, which the published bandwidths are for"
)
OUT_OF_REACH = (
    "{left} of {grid} grid points have no sample within reach of so narrow a kernel and are left out, so that the "
    "number counts the others; give a greater bandwidth"
)
MEASURES_BANDWIDTH = (
    "the number measures the bandwidth ({bandwidth:.4g}) of the kernel density, which shrinks with the number of "
    "entries ({entries}), not the layer; use view 'linear_gaussian' or 'jacobian'"
)


def deb2025_capacity(
    x: ArrayLike,
    y: ArrayLike,
    *,
    bandwidth: float | None = None,
    grid: int = 100,
    tol: float = 1e-9,
    unit: Unit = "bits",
) -> LayerCapacity:
    r"""Capacity of a layer after Deb and Ogunfunmi 2025: flattened entries, a kernel density, a discrete channel.

    .. math:: W_{ij} \propto \sum_k \exp\left(-\frac{(a_i - x_k)^2 + (b_j - y_k)^2}{2 h^2}\right), \qquad
              \sum_j W_{ij} = 1, \qquad C = \max_p I(p, W)

    with the entries x and y of inputs and outputs flattened to numbers, :math:`a_i` and :math:`b_j` equally spaced
    over their ranges [1]_.

    Choose this view to compare with that paper, and for nothing else: it warns each time. A layer is a deterministic
    map, so the only noise here is the kernel of width h; h is chosen by cross-validation and shrinks as samples are
    added, so **the number measures the sample size**, besides mixing all components of a vector into one scalar.

    Departures from the authors' code, all three from what it does to what the paper says: rows are p(y|x), not p(x|y);
    the solver goes on until its bounds agree, instead of stopping at its second step; the conditional law is the
    normalized row of the grid, which makes their quadrature of p(x) unnecessary.

    Parameters
    ----------
    x, y : array_like, of equally many entries
        Inputs and outputs of the layer, flattened in order.
    bandwidth : float, optional
        h. By default that of the 200 values from 0.005 to 1 with the greatest likelihood in 5-fold cross-validation,
        folds in order of the entries, as published; exactly the maximum, found without trying all.
    grid : int
        Points on each axis, at least 2.
    tol : float
        Largest gap of the certificate, in ``unit``.
    unit : {"nats", "bits"}

    Returns
    -------
    LayerCapacity
        ``rate`` is the information of the density on the grid. ``details`` holds bandwidth, whether it was chosen here,
        grid, ranges, and the gap. Bandwidth and ranges are in the units of x and y.

    Raises
    ------
    ShapeError
        The numbers of entries differ, or are below 10.
    DomainError
        An entry is not finite; x or y is constant; no sample is within reach of the grid at so small a bandwidth.
    ArgumentError
        An argument has no such value.

    Warns
    -----
    EstimateWarning
        Always: the number measures the bandwidth. Besides, if cross-validation chose the smallest or largest bandwidth,
        or if points of the grid are out of reach of all samples.

    References
    ----------
    .. [1] M. Deb, T. Ogunfunmi, "Information theoretic analysis of the transformer", Entropy 27(6), 589, 2025.

    Examples
    --------
    >>> import warnings
    >>> x = np.random.default_rng(0).normal(size=200)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     wide = deb2025_capacity(x, x, bandwidth=0.1)
    ...     narrow = deb2025_capacity(x, x, bandwidth=0.05)
    >>> narrow.capacity > wide.capacity + 0.5
    True
    """
    factor = per_nat(unit)
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a number above zero")
    grid = check_count("grid", grid, 2)
    a, b = (as_float_array(name, value).reshape(-1) for name, value in (("x", x), ("y", y)))
    if a.size != b.size:
        raise ShapeError(f"x and y: found {a.size} and {b.size} entries, wanted equally many")
    if a.size < 2 * FOLDS:
        raise ShapeError(f"x and y: found {a.size} entries, wanted at least {2 * FOLDS}")
    for name, values in (("x", a), ("y", b)):
        if values.min() == values.max():
            raise DomainError(f"{name}: all entries are {values[0]:.6g}; a constant carries no information")
    if bandwidth is None:
        h, best = cross_validated_bandwidth(a, b), True
    else:
        h, best = check_number("bandwidth", bandwidth), False
        if not (h > 0 and math.isfinite(h)):
            raise ArgumentError(f"bandwidth: found {h}, wanted a finite number above zero")
    joint = kernel_joint(a, b, h, grid)
    mass = joint.sum(axis=1)
    reached = mass > LEAST_MASS
    if int(reached.sum()) < 2:
        remedy = "; it is the best of the published ones, so rescale x and y" if best else ""
        raise DomainError(
            f"bandwidth: {h:.4g} is too small for {grid} grid points from {a.min():.4g} to {a.max():.4g}{remedy}"
        )
    channel = joint[reached] / mass[reached, None]
    found = blahut_arimoto(channel, tol=tol / factor)
    left = int((~reached).sum())
    messages = [MEASURES_BANDWIDTH.format(bandwidth=h, entries=a.size)]
    if best and h in (BANDWIDTHS[0], BANDWIDTHS[-1]):
        end, further = ("smallest", "smaller") if h == BANDWIDTHS[0] else ("largest", "larger")
        messages.append(AT_AN_END.format(end=end, bandwidth=h, further=further))
    if left:
        messages.append(OUT_OF_REACH.format(left=left, grid=grid))
    at_input = float(channel_information(channel, mass[reached] / mass[reached].sum()))
    return LayerCapacity(
        view="deb2025",
        capacity=factor * float(found.lower),
        rate=factor * at_input,
        ceiling=factor * math.log(grid),
        unit=unit,
        noise=f"none in a deterministic map; the kernel of the density estimate, bandwidth {h:.4g}",
        constraint=f"one of {grid - left} values from {a.min():.6g} to {a.max():.6g}, the range of the {a.size} "
        "entries",
        n=a.size,
        warnings=warn_all(messages, stacklevel=2),
        details={
            "bandwidth": h,
            "cross_validated": best,
            "grid": grid,
            "grid_rows_without_samples": left,
            "x_range": (float(a.min()), float(a.max())),
            "y_range": (float(b.min()), float(b.max())),
            "gap": factor * float(found.upper - found.lower),
        },
    )


def kernel_joint(x: FloatArray, y: FloatArray, bandwidth: float, grid: int) -> FloatArray:
    """Gaussian kernel density of pairs on a grid over their range, rows x and columns y, normalized to sum to one."""
    weights = []
    for values in (x, y):
        points = np.linspace(values.min(), values.max(), grid)
        weights.append(np.exp(-0.5 * ((points[:, None] - values) / bandwidth) ** 2))
    joint = weights[0] @ weights[1].T
    total = joint.sum()
    return np.asarray(joint / total if total > 0 else joint)


def cross_validated_bandwidth(x: FloatArray, y: FloatArray, candidates: FloatArray = BANDWIDTHS) -> float:
    r"""The candidate of greatest cross-validated likelihood, exactly, without trying all.

    In :math:`u = 1/2h^2` the logarithm of a sum of :math:`e^{-u d^2}` is convex, so between two values of u that were
    tried its chord is a bound from above; candidates whose bound is below the best value found need no trial.
    """
    pairs = np.stack([x, y], axis=1)
    folds = np.array_split(np.arange(len(pairs)), FOLDS)
    candidates = np.sort(candidates)
    u = 1 / (2 * candidates**2)
    rest = np.log(u / math.pi) * len(pairs)  # the kernel's constant; that of the number of samples does not matter

    def convex_part(i: int) -> float:
        return sum(_held_out(pairs, fold, float(u[i])) for fold in folds)

    tried = {i: convex_part(i) for i in {0, len(u) // 2, len(u) - 1}}
    while True:
        best = max(tried[i] + rest[i] for i in tried)
        known = sorted(tried)
        chord = np.interp(u[::-1], u[known][::-1], np.array([tried[i] for i in known])[::-1])[::-1]
        bound = np.where(np.isin(np.arange(len(u)), known), -np.inf, chord + rest)
        promising = int(np.argmax(bound))
        if bound[promising] < best:
            return float(candidates[min(i for i in tried if tried[i] + rest[i] == best)])
        tried[promising] = convex_part(promising)


def _held_out(pairs: FloatArray, fold: IntArray, u: float) -> float:
    """Sum over held-out pairs of the logarithm of the sum of kernels at the other pairs."""
    others = np.delete(pairs, fold, axis=0)
    step = max(1, ENTRIES // len(others))
    total = 0.0
    for start in range(0, len(fold), step):
        some = pairs[fold[start : start + step]]
        square = (some[:, :1] - others[:, 0]) ** 2
        square += (some[:, 1:] - others[:, 1]) ** 2
        least = square.min(axis=1)
        square -= least[:, None]
        square *= -u
        total += float((np.log(np.exp(square, out=square).sum(axis=1)) - u * least).sum())
    return total

