r"""What a lens says about predictions, computed from logits while they are at hand.

The logits of a few tokens at all places of the model are made by one matrix product. All that is asked of them is then
taken from them in tiles small enough for the processor's cache, so that nothing of the order of places times tokens
times vocabulary is ever held, and each logit is read from memory twice. For one tile, with z the logits:

1. the largest, m, of each row, and the candidates for the most probable outcomes, from maxima over groups of 64;
2. :math:`u = z - m` and :math:`e = e^u`, one exponential, and sums over outcomes: the mass :math:`M = \sum e`, so that
   :math:`\log p = u - \log M`, the entropy :math:`H = \log M - \frac1M \sum e\,u`, and the divergence from a row with
   u' and M', :math:`\frac1M \sum e\,(u - u') - \log M + \log M'`; Rényi entropies from :math:`\sum e^{\alpha u}`;
3. when all of M is known, :math:`\sqrt p = e^{(u - \log M) / 2}` and :math:`\sum (\sqrt p - \sqrt{p'})^2`. The
   Fisher–Rao distance is :math:`4 \arcsin(\tfrac12 \|\sqrt p - \sqrt{p'}\|)`, which keeps its digits for predictions
   that are nearly equal, where :math:`2 \arccos \sum \sqrt{p p'}` loses half of them.

Sums over a tile are pairwise sums in the format of the logits; tiles are added up in float64. A logit of minus infinity
rules an outcome out: its probability is zero, and a divergence to a prediction that rules out what the other does not
is infinite. A tile with such logits is summed once more with a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray

if TYPE_CHECKING:
    import torch

TILE = 2**17
"""Numbers in one tile for each thread: with three work arrays of half a megabyte it stays in the cache of a core."""

RUN = 64
"""Outcomes in a group whose maximum is taken first when the most probable ones are looked for."""

NEAR_ONE = 0.15
"""Orders this close to one have their Rényi entropy computed from differences to Shannon's."""

MOST_EXPONENT = 80.0
"""Where (order - 1) u is larger than this, e is zero in any format, and so is the product of the two."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be computed."""

    states: int
    """How many rows, the first ones, are states of the residual stream; the last of them is the final prediction."""
    path: int | None = None
    """How many of the states, the first ones, the path goes through; None for all."""
    compare: bool = True
    """Divergences to the final and the next state, and Fisher–Rao distances."""
    renyi: tuple[float, ...] = ()
    top_p: float | None = None
    top_k: int = 1


@dataclass(kw_only=True)
class Found:
    """Statistics of tokens (n) at rows (R), in float64."""

    entropy: FloatArray
    kl_to_final: FloatArray
    kl_to_next: FloatArray
    """NaN but for the states before the last."""
    cross_entropy: FloatArray
    rank: NDArray[np.int64]
    step_length: FloatArray
    """NaN but for the states after the first."""
    geodesic_length: FloatArray
    top_ids: NDArray[np.int64]
    top_probabilities: FloatArray
    renyi: dict[float, FloatArray] = field(default_factory=dict)
    set_size: NDArray[np.int64] | None = None
    finite: NDArray[np.bool_]
    """False where a logit is NaN or plus infinity, or all are minus infinity."""


def statistics_of(logits: torch.Tensor, targets: Sequence[int], wanted: Wanted) -> Found:
    """Statistics of the predictions with the given logits.

    Parameters
    ----------
    logits : tensor, shape (n, R, V)
        Float32 or float64, contiguous.
    targets : sequence of int
        (n) the true outcome of each token, -1 where there is none.
    wanted : Wanted

    Returns
    -------
    Found
    """
    import torch

    true = torch.as_tensor(list(targets), device=logits.device)
    found = _Work(logits, wanted, TILE * torch.get_num_threads()).chunk(logits, true)
    renyi = {order: value.cpu().numpy().T for order, value in found.pop("renyi").items()}
    arrays = {name: value.cpu().numpy() for name, value in found.items()}
    by_row = {name: value.swapaxes(0, 1) if value.ndim >= 2 else value for name, value in arrays.items()}
    return Found(renyi=renyi, **by_row)


class _Work:
    """Work arrays of the size of a tile, and what is done with them."""

    def __init__(self, logits: torch.Tensor, wanted: Wanted, size: int) -> None:
        import torch

        tokens, rows, outcomes = logits.shape
        self.wanted, self.outcomes = wanted, outcomes
        at_once = min(tokens, max(1, size // (rows * outcomes)))
        columns = min(outcomes, max(RUN, size // rows))
        self.tokens = [slice(a, min(a + at_once, tokens)) for a in range(0, tokens, at_once)]
        self.blocks = [slice(a, min(a + columns, outcomes)) for a in range(0, outcomes, columns)]
        room = at_once * rows * columns
        self.arrays = [torch.empty(room, dtype=logits.dtype, device=logits.device) for _ in range(3)]

    def _array(self, which: int, like: torch.Tensor) -> torch.Tensor:
        return self.arrays[which][: like.numel()].view(like.shape)

    def chunk(self, z: torch.Tensor, true: torch.Tensor) -> dict[str, Any]:
        """Statistics of the tokens (n, R, V); what is not of the size of the logits is done for all of them at once."""
        import torch

        wanted = self.wanted
        n, rows, _ = z.shape
        top_values, top_ids = _largest(z, wanted.top_k)
        top = top_values[..., :1]
        own = torch.gather(z, 2, true.clamp_min(0)[:, None, None].expand(n, rows, 1))
        sums = self._summed(z, top, own)
        if not bool(sums["own"].isfinite().all()):
            sums = self._summed(z, top, own, ruled_out=True)
        mass = sums["mass"]
        log_mass = mass.log()
        log_sum = top[..., 0].double() + log_mass
        steps = self._stepped(z, log_sum) if wanted.compare and wanted.states > 1 else self._sums_of_tiles()
        found = self._finished(sums, steps, mass, log_mass)
        there = (true >= 0)[:, None]
        top_log = top_values.double() - log_sum[..., None]
        found |= {
            "cross_entropy": torch.where(there, log_sum - own[..., 0].double(), torch.nan),
            "rank": torch.where(there, sums["above"].long() + 1, 0), "finite": torch.isfinite(log_sum),
            "top_ids": top_ids, "top_probabilities": top_log.exp(),
            "renyi": {order: self._renyi(order, sums, mass, log_mass) for order in wanted.renyi},
        }
        if wanted.top_p is not None:
            found["set_size"] = torch.cat([_set_sizes(z[t], top[t], wanted.top_p) for t in self.tokens])
        return found

    def _sums_of_tiles(self) -> _Sums:
        return _Sums(len(self.blocks))

    def _summed(self, z: torch.Tensor, top: torch.Tensor, own: torch.Tensor, *, ruled_out: bool = False) -> _Sums:
        """What needs no normalizer, summed over outcomes."""
        sums = self._sums_of_tiles()
        for tokens in self.tokens:
            for block in self.blocks:
                self._sums(z[tokens, :, block], top[tokens], own[tokens], sums, ruled_out=ruled_out)
        return sums

    def _stepped(self, z: torch.Tensor, log_sum: torch.Tensor) -> _Sums:
        """Squared distances of the roots from state to state, and from the first to the last of the path."""
        steps = self._sums_of_tiles()
        half = log_sum[:, : self.wanted.states] / -2
        rounded = half.to(z.dtype)
        for tokens in self.tokens:
            for block in self.blocks:
                self._distances(z[tokens, : self.wanted.states, block], rounded[tokens, :, None], steps)
        self._unround(steps, (half - rounded.double()).exp())
        return steps

    def _sums(
        self, z: torch.Tensor, top: torch.Tensor, own: torch.Tensor, sums: _Sums, *, ruled_out: bool = False
    ) -> None:
        """Add up what needs no normalizer, over the outcomes of one tile; ``ruled_out`` if some have no probability."""
        import torch

        wanted, states = self.wanted, self.wanted.states
        sums.add("above", torch.gt(z, own, out=self._array(2, z)).sum(-1))
        u = torch.sub(z, top, out=self._array(0, z))
        e = torch.exp(u, out=self._array(1, z))
        sums.add("mass", e.sum(-1))
        gone = u == -torch.inf if ruled_out else None
        if gone is not None:
            u.masked_fill_(gone, 0)  # so that e u is zero there
            sums.add("possible", (~gone).sum(-1))
        if wanted.compare:
            for name, rows, other in (
                ("final", slice(None), slice(states - 1, states)), ("next", slice(0, states - 1), slice(1, states))
            ):
                cross = torch.mul(e[:, rows], u[:, other], out=self._array(2, e[:, rows]))
                if gone is not None:
                    cross.masked_fill_(gone[:, other] & ~gone[:, rows], -torch.inf)
                sums.add(name, cross.sum(-1))
        for order in wanted.renyi:
            if order not in (0.0, 1.0, np.inf):
                power = torch.mul(u, order - 1 if _near_one(order) else order, out=self._array(2, z))
                if _near_one(order):
                    power.clamp_(max=MOST_EXPONENT).expm1_().mul_(e)
                else:
                    power.exp_()
                    if gone is not None:
                        power.masked_fill_(gone, 0)
                sums.add(f"power {order}", power.sum(-1))
        sums.add("own", u.mul_(e).sum(-1))  # in place, and so last

    def _distances(self, z: torch.Tensor, half: torch.Tensor, steps: _Sums) -> None:
        """Add up squared distances of the roots, from state to state and from the first to the last of the path."""
        import torch

        root = torch.add(half, z, alpha=0.5, out=self._array(0, z)).exp_()
        last = self._path
        if last:
            whole = root[:, last - 1] - root[:, 0]
            steps.add("whole", whole.mul_(whole).sum(-1))
        step = torch.sub(root[:, 1:], root[:, :-1], out=self._array(1, root[:, 1:]))
        steps.add("steps", step.mul_(step).sum(-1))

    def _unround(self, steps: _Sums, factors: torch.Tensor) -> None:
        r"""Take back that the normalizers of the roots were rounded, which would move predictions apart.

        The roots are r = sqrt p / c with known factors c (g, S), so that :math:`\sum r^2 = 1 / c^2` and
        :math:`\|c r - c' r'\|^2 = c c' \|r - r'\|^2 - (c - c')^2 / (c c')`.
        """

        def true(name: str, c: torch.Tensor, d: torch.Tensor) -> None:
            steps[name] = (c * d * steps[name] - (c - d).square() / (c * d)).clamp_min(0)

        true("steps", factors[:, 1:], factors[:, :-1])
        if self._path:
            true("whole", factors[:, self._path - 1], factors[:, 0])

    @property
    def _path(self) -> int:
        return self.wanted.states if self.wanted.path is None else self.wanted.path

    def _finished(
        self, sums: _Sums, steps: _Sums, mass: torch.Tensor, log_mass: torch.Tensor
    ) -> dict[str, Any]:
        """Entropy, divergences and distances from the sums."""
        import torch

        wanted, states = self.wanted, self.wanted.states
        entropy = log_mass - sums["own"] / mass
        to_final, to_next, step = (torch.full_like(entropy, torch.nan) for _ in range(3))
        whole = torch.full_like(entropy[:, 0], torch.nan)
        if wanted.compare:
            to_final = log_mass[:, states - 1 : states] - sums["final"] / mass - entropy
            before = slice(0, states - 1)
            to_next[:, before] = log_mass[:, 1:states] - sums["next"] / mass[:, before] - entropy[:, before]
            if states > 1:
                step[:, 1:states] = _arc(steps["steps"])
            if self._path:
                whole = _arc(steps["whole"]) if states > 1 else torch.zeros_like(whole)
        return {
            "entropy": entropy, "kl_to_final": to_final, "kl_to_next": to_next, "step_length": step,
            "geodesic_length": whole,
        }

    def _renyi(self, order: float, sums: _Sums, mass: torch.Tensor, log_mass: torch.Tensor) -> torch.Tensor:
        """Rényi entropy of one order from the sums."""
        import torch

        if order == 0:
            possible = sums["possible"] if "possible" in sums else torch.full_like(mass, self.outcomes)
            return possible.log()
        if order == 1:
            return log_mass - sums["own"] / mass
        if order == np.inf:
            return log_mass
        power = sums[f"power {order}"]
        if _near_one(order):
            # sum e^(a u) = M + sum e (e^((a-1) u) - 1), and the second part is small
            return log_mass + torch.log1p(power / mass) / (1 - order)
        return (power.log() - order * log_mass) / (1 - order)


class _Sums:
    """Sums over tiles by name, added up in float64 when they are asked for."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._totals: dict[str, torch.Tensor] = {}

    def add(self, name: str, value: torch.Tensor) -> None:
        """The sum over one tile: all blocks of outcomes of a few tokens, then those of the next tokens."""
        self._parts.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __setitem__(self, name: str, value: torch.Tensor) -> None:
        self._totals[name] = value

    def __getitem__(self, name: str) -> torch.Tensor:
        import torch

        if name not in self._totals:
            parts = self._parts[name]
            total = torch.cat(parts[:: self._blocks]).double()
            for block in range(1, self._blocks):
                total += torch.cat(parts[block :: self._blocks]).double()
            self._totals[name] = total
        return self._totals[name]


def _near_one(order: float) -> bool:
    return abs(order - 1) < NEAR_ONE


def _arc(squared: torch.Tensor) -> torch.Tensor:
    """Fisher–Rao distance of two predictions whose roots are so far apart, squared."""
    return 4 * (squared.sqrt() / 2).clamp_max(1).asin()


def _largest(z: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest numbers of each row (g, R, V) and where they are, (g, R, count).

    Each of the largest lies in one of as many groups with the largest maxima, or in the rest at the end.
    """
    import torch

    outcomes = z.shape[-1]
    runs = outcomes // RUN
    if runs <= count:
        return torch.topk(z, count, dim=-1)
    # every so-many-th outcome makes a group: maxima of all groups are taken side by side, which is the fastest
    best = z[..., : runs * RUN].view(*z.shape[:-1], RUN, runs).amax(-2).topk(count, dim=-1).indices
    places = (best[..., None] + runs * torch.arange(RUN, device=z.device)).flatten(-2)
    rest = torch.arange(runs * RUN, outcomes, device=z.device).expand(*z.shape[:2], -1)
    places = torch.cat([places, rest], dim=-1)
    values, at = torch.gather(z, 2, places).topk(count, dim=-1)
    return values, torch.gather(places, 2, at)


def _set_sizes(z: torch.Tensor, top: torch.Tensor, top_p: float) -> torch.Tensor:
    """Fewest outcomes of each row (g, R, V) whose probabilities sum to at least ``top_p``, all possible ones for 1."""
    import torch

    if top_p == 1:
        return (z > -torch.inf).sum(-1)
    e = (z - top).exp_()
    ordered = torch.from_numpy(np.sort(e.cpu().numpy(), axis=-1)).flip(-1) if e.device.type == "cpu" else (
        e.sort(dim=-1, descending=True).values
    )
    sums = ordered.double().cumsum_(-1)
    sizes = (sums < top_p * sums[..., -1:]).sum(-1) + 1
    return sizes.clamp_max(z.shape[-1])
