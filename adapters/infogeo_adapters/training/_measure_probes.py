"""Functional probes: does the model see the future, does it know the order of tokens, do its blocks normalize?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo_adapters.training._measure_pass import BlockCall, run_watched
from infogeo_adapters.training._measure_structure import Structure

if TYPE_CHECKING:
    import torch

TEXTS = 8
"""Most texts that tokens are exchanged in."""

LEAST = 1e-5
"""A relative change of the states up to this is rounding."""

LARGE = 1000.0
"""What the input of a block is multiplied by before it is doubled."""


class Exchanges:
    """The probe batch with tokens exchanged, drawn once for a meter.

    Parameters
    ----------
    ids, mask : ndarray, shape (B, T)
    targets : ndarray, shape (B, T)
    vocabulary : int
    rng : numpy.random.Generator

    Attributes
    ----------
    ids, mask : ndarray
        Of the texts that are used.
    future : ndarray
        Each token from the middle of its text on is another one.
    order : ndarray
        The tokens before the middle, but for the first, in another order.
    other : ndarray
        The tokens before the middle, but for the first, are others.
    before, after : ndarray of bool
        Tokens before the middle, and from it on, of texts in which something could be exchanged and permuted.
    """

    def __init__(self, ids: IntArray, mask: IntArray, rng: np.random.Generator) -> None:
        kept = np.sort(rng.permutation(len(ids))[:TEXTS])
        self.ids, self.mask = ids[kept], mask[kept]
        known = np.unique(ids[mask == 1])
        self.future, self.order, self.other = self.ids.copy(), self.ids.copy(), self.ids.copy()
        self.before, self.after = np.zeros(self.ids.shape, bool), np.zeros(self.ids.shape, bool)
        for b, row in enumerate(self.mask):
            real = np.flatnonzero(row)
            first, second = real[: len(real) // 2], real[len(real) // 2 :]
            self.before[b, first], self.after[b, second] = True, True
            self.future[b, second] = _others(self.ids[b, second], known, rng)
            moved = first[1:]
            self.order[b, moved] = _permuted(self.ids[b, moved], rng)
            self.other[b, moved] = _others(self.ids[b, moved], known, rng)
            self.before[b] &= bool((self.future[b] != self.ids[b]).any())
            self.after[b] &= bool((self.order[b] != self.ids[b]).any())


def _others(ids: IntArray, known: IntArray, rng: np.random.Generator) -> IntArray:
    """Another token for each, of those that occur in the batch."""
    if len(known) < 2:
        return ids
    place = np.searchsorted(known, ids)
    return np.asarray(known[(place + rng.integers(1, len(known), size=len(ids))) % len(known)])


def _permuted(ids: IntArray, rng: np.random.Generator) -> IntArray:
    """The same tokens in another order; of some tries the one in which most places have another token."""
    tries = [rng.permutation(ids) for _ in range(8)]
    return max(tries, key=lambda t: int((t != ids).sum()))


def future_sensitivity(structure: Structure, made: Exchanges, own: list[torch.Tensor], time_major: bool) -> FloatArray:
    """(L + 1) change of the states before exchanged tokens over their size.

    ``own`` are the states of the texts as they are.
    """
    changed = _states(structure, made.future, made.mask, own[0], time_major)
    return np.array([_change(a, b, made.before) for a, b in zip(own, changed, strict=True)])


def order_sensitivity(structure: Structure, made: Exchanges, own: list[torch.Tensor], time_major: bool) -> FloatArray:
    """(L + 1) change of states when tokens before them change places, over that when these are other tokens.

    At the tokens from the middle of a text on, whose own token stays. NaN where other tokens change nothing, as in the
    embedding. In half-precision formats it is not below what rounding makes.
    """
    moved = _states(structure, made.order, made.mask, own[0], time_major)
    other = _states(structure, made.other, made.mask, own[0], time_major)
    found = []
    for state, one, two in zip(own, moved, other, strict=True):
        whole = _change(state, two, made.after)
        found.append(_change(state, one, made.after) / whole if whole > LEAST else np.nan)
    return np.array(found)


def own_states(structure: Structure, made: Exchanges, device: torch.device) -> tuple[list[torch.Tensor], bool]:
    """The states of the texts as they are, and whether blocks hold them as (token, text, d)."""
    import torch

    from infogeo_adapters.training._measure_predictions import is_time_major

    ids, mask = torch.from_numpy(made.ids).to(device), torch.from_numpy(made.mask).to(device)
    passed = run_watched(structure, ids, mask)
    time_major = is_time_major(passed, ids)
    return passed.states(time_major), time_major


def _states(
    structure: Structure, ids: IntArray, mask: IntArray, like: torch.Tensor, time_major: bool
) -> list[torch.Tensor]:
    import torch

    passed = run_watched(structure, torch.from_numpy(ids).to(like.device), torch.from_numpy(mask).to(like.device))
    return passed.states(time_major)


def _change(state: torch.Tensor, other: torch.Tensor, where: FloatArray) -> float:
    """Norm of the change over the norm, both over some places; NaN if a state is not finite."""
    import torch

    places = torch.from_numpy(where).to(state.device)
    a, b = state[places].double(), other[places].double()
    size = float(a.norm())
    change = float((a - b).norm())
    return change / size if size > 0 and np.isfinite(change) else np.nan


def large_carry(call: BlockCall) -> float:
    r"""Slope of what a block returns on its input, for an input K = 1000 times as large, not centered.

    .. math:: \frac{\langle f(Kx), Kx \rangle}{\lVert Kx \rVert^2}

    One with a residual stream, whatever is added to it behind a norm; near zero without one, and where the output is
    normalized. NaN in the half-precision formats, which do not hold such an input.
    """
    import torch

    if call.x.dtype.itemsize < 4:
        return np.nan
    with torch.no_grad():
        x = call.x * LARGE
        y, x = call.again(x).double(), x.double()
    square = float((x * x).sum())
    slope = float((x * y).sum()) / square if square > 0 else np.nan
    return slope if np.isfinite(slope) else np.nan


def scale_response(call: BlockCall) -> float:
    r"""Relative change of what a block adds, or of what it returns if that changes less, when a large input is doubled.

    .. math:: \min\left(\frac{\lVert b(2Kx) - b(Kx) \rVert}{\lVert b(Kx) \rVert},
              \frac{\lVert f(2Kx) - f(Kx) \rVert}{\lVert f(Kx) \rVert}\right), \qquad b(x) = f(x) - x

    Near zero for a block in which all that is added goes through a norm first (first quotient), or that ends with a
    norm (second); about one or more where a part has none. At the size that the input has, K = 1, a healthy block may
    change too, since what attention adds decides where the feed-forward looks; so the input is a thousand times its
    size (K = 1 in the half-precision formats, which do not hold that). NaN for a block that adds nothing.
    """
    import torch

    with torch.no_grad():
        scale = LARGE if call.x.dtype.itemsize >= 4 else 1.0
        x = call.x * scale
        y = call.again(x).double()
        doubled = call.again(x * 2).double()
        x = x.double()
        added, more = y - x, doubled - 2 * x
        if float((call.y - call.x).double().norm()) <= 1e-6 * float(call.x.double().norm()):
            return np.nan
        quotients = [
            float((a - b).norm() / b.norm()) for a, b in ((more, added), (doubled, y)) if float(b.norm()) > 0
        ]
    finite = [q for q in quotients if np.isfinite(q)]
    return min(finite) if len(finite) == len(quotients) and finite else np.nan
