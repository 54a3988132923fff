"""A linear probe, fitted and judged on different groups: what a layer's vectors say about labels."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import is_tensor
from infogeo._checks import (
    FloatArray,
    IntArray,
    as_array,
    as_floats,
    as_int_array,
    check_count,
    group_numbers,
    random_generator,
)
from infogeo._units import Unit
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning, InformationEstimate
from infogeo.probing import probing_information
from infogeo_adapters._require import require

if TYPE_CHECKING:
    from torch import Tensor

PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""From a probe that says little more than the frequencies to one that is nearly free."""

INNER_FOLDS = 3


def probe_information(
    x: Any,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
    max_iter: int = 500,
    level: float = 0.95,
    rng: Any = None,
    unit: Unit = "nats",
) -> InformationEstimate:
    r"""Lower bound of the information between vectors and labels, by a linear probe on held-out groups.

    A softmax regression :math:`q(y \mid t) \propto \exp(w_y^\top t + b_y)` is fitted on all folds but one and predicts
    that one; :func:`infogeo.probing_information` turns the predictions into the bound H(Y) less cross-entropy. Whole
    groups go into a fold. Components are standardized by mean and standard deviation of the training rows, and a
    constant one is left out. The penalty, half of it times the squared weights added to the mean loss, is chosen
    by cross-entropy over three folds inside the training rows. Intercepts start at, and are drawn towards, the
    logarithms of the training frequencies, smoothed: a strong penalty leaves a probe that predicts these, and a label
    that no training row has is not ruled out.

    What a linear probe does not find may still be there: the bound can be far below the information (labels that are
    the exclusive or of two components give zero). One that is too rich loses to few samples. Penalized or stopped
    early, every probe gives a valid bound.

    Parameters
    ----------
    x : array or tensor, shape (n, d)
        Vectors, such as the hidden states of a layer; a tensor is used on its device, and no
        gradient passes.
    labels : array_like, shape (n,)
        Whole numbers or strings.
    groups : array_like, shape (n,), optional
        What must not be torn apart, and counts as one independent observation in the interval: the text of a token.
        Rows count as independent if left out; for tokens of the same texts that would overstate the bound.
    folds : int
        At least 2, and at most the number of groups.
    penalties : sequence of float
        Candidates, positive.
    max_iter : int
        Iterations of L-BFGS for one fit.
    level : float
        Coverage of the interval.
    rng : int, numpy.random.Generator or None
        Decides which groups share a fold.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    InformationEstimate
        Of I(T; Y); ``details`` has the penalty of each fold, entropy, cross-entropy and accuracy. The folds share
        training rows, which the interval does not know of.

    Warns
    -----
    EstimateWarning
        If there are few groups, a fit stopped early (the bound holds, but may be looser), or labels are alike.

    Raises
    ------
    ShapeError, DomainError
        If the shapes do not fit, an entry is not finite, or there are fewer groups than folds.
    ArgumentError
        If there are fewer than two folds, or a penalty is not positive.
    MissingDependencyError
        If torch is not installed.

    See Also
    --------
    infogeo.probing_information : The bound from predictions of any probe of your own.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 200)
    >>> x = rng.normal(size=(400, 3)) + 2 * labels[:, None]  # the truth is 0.62 nats
    >>> bound = probe_information(x, labels, rng=0)
    >>> bool(bound.interval[0] < 0.62 < bound.interval[1])
    True
    """
    torch = require("torch", extra="transformers", caller="probe_information")
    rows = as_floats("x", x)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ShapeError(f"x: found shape {tuple(rows.shape)}, wanted (n, d): one row for each sample")
    n = rows.shape[0]
    names, chosen = _classes(labels, n)
    members = group_numbers(groups, n)
    n_folds, limit = check_count("folds", folds, 2), check_count("max_iter", max_iter, 1)
    if members.max() + 1 < n_folds:
        raise DomainError(f"groups: found {members.max() + 1}, wanted at least {n_folds}, one for each fold")
    strengths = _strengths(penalties)
    generator = random_generator(rng)

    vectors = rows.detach() if is_tensor(rows) else torch.from_numpy(rows)
    largest = vectors.abs().amax(dim=0)
    vectors = vectors / torch.where(largest > 0, largest, 1.0)  # squares of any scale stay in the range of float64
    predicted = np.empty((n, len(names)))
    used, complete = [], []
    for training, held_out in _splits(members, n_folds, generator):
        strength = _choose(vectors, chosen, members, training, len(names), strengths, limit, generator)
        predict, converged = _fit(vectors, chosen, training, len(names), strength, limit)
        predicted[held_out] = predict(held_out)
        used.append(strength)
        complete.append(converged)

    with warnings.catch_warnings():  # given again below, with the place of this call
        warnings.simplefilter("ignore", EstimateWarning)
        bound = probing_information(chosen, predicted, groups=members, level=level, unit=unit)
    found = list(bound.warnings)
    if not all(complete):
        found.append(
            f"{n_folds - sum(complete)} of {n_folds} fits stopped early, by {limit} iterations at most: the bound "
            "holds, but may be looser than it need be; raise max_iter"
        )
    for message in found:
        warnings.warn(f"probe_information: {message}", EstimateWarning, stacklevel=2)
    return dataclasses.replace(
        bound,
        method=f"lower bound H(Y) - cross-entropy, linear probe on {n_folds} held-out folds",
        dimensions=(int(rows.shape[1]), 0),
        warnings=tuple(found),
        details={**bound.details, "penalties": tuple(used), "folds": n_folds, "labels": names},
        source=dataclasses.replace(bound.source, seed=int(rng) if isinstance(rng, int | np.integer) else None),
    )


def _classes(labels: ArrayLike, n: int) -> tuple[tuple[Any, ...], IntArray]:
    """Names of the classes, and the class of each row as a number from 0."""
    array = as_array("labels", labels)
    if array.dtype.kind not in "US":
        array = as_int_array("labels", labels) if array.dtype.kind != "b" else array.astype(np.int64)
    if array.shape != (n,):
        raise ShapeError(f"labels: found shape {array.shape}, wanted ({n},), one label for each row of x")
    names, numbers = np.unique(array, return_inverse=True)
    return tuple(names.tolist()), np.asarray(numbers, dtype=np.int64)


def _strengths(penalties: Sequence[float]) -> list[float]:
    """The candidates, the strongest first, so that each fit starts where a tamer one ended."""
    values = as_floats("penalties", penalties)
    if values.ndim != 1 or values.size == 0 or (values <= 0).any():
        raise ArgumentError(f"penalties: found {penalties!r}, wanted positive numbers, such as {PENALTIES}")
    return sorted((float(v) for v in values), reverse=True)


def _splits(members: IntArray, folds: int, rng: np.random.Generator) -> Iterator[tuple[IntArray, IntArray]]:
    """Training and held-out rows, whole groups apart, folds of nearly equal numbers of rows."""
    sizes = np.bincount(members)
    present = np.flatnonzero(sizes)
    order = present[rng.permutation(len(present))]
    fold_of, load = np.full(len(sizes), -1), np.zeros(folds)
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # large ones first, each into the lightest fold
        fold_of[group] = lightest = int(load.argmin())
        load[lightest] += sizes[group]
    place = fold_of[members]
    for fold in range(folds):
        yield np.flatnonzero(place != fold), np.flatnonzero(place == fold)


def _choose(
    x: Tensor, labels: IntArray, members: IntArray, training: IntArray, n_classes: int, strengths: list[float],
    max_iter: int, rng: np.random.Generator,
) -> float:
    """The penalty of least cross-entropy over folds inside the training rows."""
    inside = members[training]
    n_groups = len(np.unique(inside))
    if len(strengths) == 1 or n_groups < 2:
        return strengths[0]
    loss = np.zeros(len(strengths))
    for fitted, judged in _splits(inside, min(INNER_FOLDS, n_groups), rng):
        start: FloatArray | None = None
        rows = training[judged]
        for i, strength in enumerate(strengths):
            predict, _ = _fit(x, labels, training[fitted], n_classes, strength, max_iter, start)
            start = predict.parameters
            loss[i] -= predict(rows)[np.arange(len(rows)), labels[rows]].sum()
    return strengths[int(loss.argmin())]


@dataclasses.dataclass(frozen=True, eq=False)
class _Probe:
    """A fitted probe: rows in, log-probabilities out."""

    scores: Callable[[IntArray, FloatArray], Tensor]
    parameters: FloatArray

    def __call__(self, rows: IntArray) -> FloatArray:
        scores = self.scores(rows, self.parameters)
        return np.asarray(scores.log_softmax(dim=1).cpu().numpy())


def _fit(
    x: Tensor, labels: IntArray, training: IntArray, n_classes: int, strength: float, max_iter: int,
    start: FloatArray | None = None,
) -> tuple[_Probe, bool]:
    """Softmax regression on the training rows, and whether the minimization converged."""
    import torch
    from scipy.optimize import minimize

    device, n = x.device, len(training)
    fitted = x[torch.as_tensor(training, device=device)]
    center, spread = fitted.mean(dim=0), fitted.std(dim=0, correction=0)
    flat = spread <= 1e-12 * fitted.abs().max(dim=0).values
    spread = torch.where(flat, torch.inf, spread)  # a constant component becomes zero
    standard = (fitted - center) / spread
    counts = np.bincount(labels[training], minlength=n_classes)
    prior = torch.as_tensor(np.log((counts + 0.5) / (n + 0.5 * n_classes)), device=device)
    target = torch.as_tensor(labels[training], device=device)
    each = torch.arange(n, device=device)
    shape = (x.shape[1] + 1, n_classes)  # the last row moves the intercepts away from the frequencies

    def scores(vectors: Tensor, parameters: FloatArray) -> Tensor:
        weights = torch.as_tensor(parameters.reshape(shape), device=device)
        return vectors @ weights[:-1] + (weights[-1] + prior)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        log_probs = scores(standard, parameters).log_softmax(dim=1)
        slope = log_probs.exp()
        slope[each, target] -= 1.0
        gradient = torch.cat([standard.T @ slope, slope.sum(dim=0)[None]]) / n
        value = -float(log_probs[each, target].mean()) + strength / 2 * float(parameters @ parameters)
        return value, gradient.cpu().numpy().ravel() + strength * parameters

    first = np.zeros(shape[0] * shape[1]) if start is None else start
    done = minimize(
        loss, first, jac=True, method="L-BFGS-B", options={"maxiter": max_iter, "ftol": 1e-10, "gtol": 1e-6}
    )

    def apply(rows: IntArray, parameters: FloatArray) -> Tensor:
        return scores((x[torch.as_tensor(rows, device=device)] - center) / spread, parameters)

    return _Probe(apply, np.asarray(done.x)), bool(done.success)
