"""Functional probes: does the model see the future, does it know the order of tokens, do its blocks normalize?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo_adapters.training._measure_pass import BlockCall, is_norm, run_watched
from infogeo_adapters.training._measure_structure import Structure
from infogeo_adapters.transformers.stack import of_this_thread

if TYPE_CHECKING:
    import torch

TEXTS = 8
"""Most texts that tokens are exchanged in."""

LEAST = 1e-5
"""A relative change of the states up to this is rounding."""

ALIKE = 1e-6
"""Tokens of norm one that differ by less than this, in the root mean square, are one."""

GROWING = 0.5
"""A block whose response to scale is above this seems to lack a norm."""

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


def large_carry(call: BlockCall, real: torch.Tensor) -> float:
    r"""Slope of what a block returns on its input, for an input K = 1000 times as large, not centered.

    .. math:: \frac{\langle f(Kx), Kx \rangle}{\lVert Kx \rVert^2}

    over the tokens that are no padding. One with a residual stream, whatever is added to it behind a norm; near zero
    without one, and where the output is normalized. NaN in the half-precision formats, which do not hold such an input.
    """
    import torch

    if call.x.dtype.itemsize < 4:
        return np.nan
    with torch.no_grad():
        x = call.x * LARGE
        y, x = call.again(x)[real].double(), x[real].double()
    square = float((x * x).sum())
    slope = float((x * y).sum()) / square if square > 0 else np.nan
    return slope if np.isfinite(slope) else np.nan


def muted_carry(call: BlockCall, block: int, structure: Structure, real: torch.Tensor) -> float:
    r"""Correlation of what a block returns with its input, when attention and feed-forward write nothing.

    .. math:: \frac{\langle \hat x - \bar x, \hat y - \bar y \rangle}
              {\lVert \hat x - \bar x \rVert \lVert \hat y - \bar y \rVert}

    with the tokens that are no padding scaled to norm one and centered over tokens. The output projection of attention
    and the last map of the feed-forward give zeros for this pass. What then comes out came by the residual stream: one,
    or a little less where the sum is normalized; zero if there is no such way around one of the two. NaN where these
    maps are not known, or were not called.
    """
    import torch

    parts = [found for found in (structure.outputs.get(block), structure.lasts.get(block)) if found is not None]
    if len(parts) < 2:
        return np.nan
    turns: dict[int, int] = {}
    muted: set[int] = set()

    def mute(place: int, turn: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            now = turns.get(place, 0)
            turns[place] = now + 1
            if now != turn or not isinstance(output, torch.Tensor):
                return None
            muted.add(place)
            return torch.zeros_like(output)

        return of_this_thread(hook)

    handles = [module.register_forward_hook(mute(k, turn)) for k, (module, turn) in enumerate(parts)]
    try:
        with torch.no_grad():
            y = call.again(call.x)[real].double()
    finally:
        for handle in handles:
            handle.remove()
    x = call.x[real].double()
    if len(muted) < 2 or not bool(x.isfinite().all()) or not bool(y.isfinite().all()):
        return np.nan
    x, y = _centered_units(x), _centered_units(y)
    size, other = float(x.norm()), float(y.norm())
    if size <= ALIKE * len(x) ** 0.5:
        return np.nan  # the tokens are one
    return float((x * y).sum()) / (size * other) if other > ALIKE * len(y) ** 0.5 else 0.0


def _centered_units(rows: torch.Tensor) -> torch.Tensor:
    """Rows scaled to norm one, where they have one, less their mean."""
    unit: torch.Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return unit - unit.mean(dim=0)


def scale_response(call: BlockCall, real: torch.Tensor, normalized: torch.Tensor | None = None) -> float:
    r"""Relative change of what a block adds, or of what it returns if that changes less, when a large input is doubled.

    .. math:: \min\left(\frac{\lVert b(2Kx) - b(Kx) \rVert}{\lVert b(Kx) \rVert},
              \frac{\lVert f(2Kx) - f(Kx) \rVert}{\lVert f(Kx) \rVert}\right), \qquad b(x) = f(x) - x

    over the tokens that are no padding. Near zero for a block in which all that is added goes through a norm first
    (first quotient), or that ends with a norm (second); about one or more where a part has none. At the size that the
    input has, K = 1, a healthy block may change too, since what attention adds decides where the feed-forward looks; so
    the input is a thousand times its size (K = 1 in the half-precision formats, which do not hold that). NaN for a
    block that adds nothing, and where a block that has a norm of its own is given what a norm has just put out,
    ``normalized``, and seems to have none: its first part may do without another, as that of ModernBERT does.
    """
    import torch

    with torch.no_grad():
        scale = LARGE if call.x.dtype.itemsize >= 4 else 1.0
        x = call.x * scale
        y = call.again(x)[real].double()
        doubled = call.again(x * 2)[real].double()
        x = x[real].double()
        added, more = y - x, doubled - 2 * x
        if float((call.y - call.x)[real].double().norm()) <= 1e-6 * float(call.x[real].double().norm()):
            return np.nan
        quotients = [
            float((a - b).norm() / b.norm()) for a, b in ((more, added), (doubled, y)) if float(b.norm()) > 0
        ]
    if not quotients or not np.isfinite(quotients).all():
        return np.nan
    least = min(quotients)
    before = normalized is not None and normalized.shape == call.x.shape and torch.equal(normalized, call.x)
    return np.nan if before and least > GROWING and any(map(is_norm, call.module.modules())) else least
