"""What the batches are that a model trains on: how often each target occurs, and whether batches come again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from infogeo_adapters.training.probe import IGNORED, Objective

if TYPE_CHECKING:
    import torch

PENDING = 1 << 20
"""Tokens that wait on a device before they are counted, so that counting does not make it wait at each step."""

RECENT = 8
"""Different batches that are remembered: epochs over many batches, in order or not, are no repetition."""


@dataclass(frozen=True)
class Batch:
    """What a model is trained on in one call."""

    ids: torch.Tensor
    targets: torch.Tensor | None = None
    """What it is to predict, -100 where nothing; None if the call does not say."""
    beside: torch.Tensor | None = None
    """The tokens that it is given in the places of the targets, where these must not be shown there: masked tokens must
    be masked, and the input of a decoder be shifted. None of causal models, which shift texts that are their own
    labels."""

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The same with every tensor moved."""
        targets, beside = (None if x is None else move(x) for x in (self.targets, self.beside))
        return Batch(move(self.ids), targets, beside)


class TokenStatistics:
    """Counts targets and compares batches, from the batches that are shown to it.

    Parameters
    ----------
    objective : str
        What the model learns; of ``"next token"`` the target is the token after.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._counts: torch.Tensor | None = None
        self._known: dict[bytes, None] = {}
        self._batches = self._repeated = 0
        self._answers = self._shown = 0
        self._pending: list[Batch] = []
        self._waiting = 0

    def see(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take what the model is called with."""
        ids = ids_of(args, kwargs)
        if ids is None:
            return
        batch = batch_of(ids, kwargs, self._objective)
        if ids.device.type == "cpu":
            self._count(batch)
            return
        self._pending.append(batch.moved(lambda x: x.detach().clone()))
        self._waiting += ids.numel()
        if self._waiting >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Count what waits on a device."""
        pending, self._pending, self._waiting = self._pending, [], 0
        for batch in pending:
            self._count(batch.moved(lambda x: x.cpu()))

    def entropy(self) -> float | None:
        r"""Entropy of the targets so far in nats, None if there are none.

        :math:`-\sum_v \frac{n_v}{n} \ln \frac{n_v}{n} + \frac{K - 1}{2n}`, with K the number of different targets
        [1]_; the second term makes up for most of the bias of the first.

        References
        ----------
        .. [1] G. A. Miller, Note on the bias of information estimates, in: Information Theory in Psychology (1955),
           equation (3)
        """
        self.settle()
        if self._counts is None:
            return None
        counts = self._counts[self._counts > 0].double()
        n = float(counts.sum())
        shares = counts / n
        return float(-(shares * shares.log()).sum()) + (len(counts) - 1) / (2 * n)

    def repetition(self) -> float | None:
        """Share of the batches since the last call that are among the eight different ones before; None without any."""
        self.settle()
        batches, repeated = self._batches, self._repeated
        self._batches = self._repeated = 0
        return repeated / batches if batches else None

    def shown(self) -> float | None:
        """Share of the targets since the last call that stand in the input in their own place; None if not known."""
        self.settle()
        answers, shown = self._answers, self._shown
        self._answers = self._shown = 0
        return shown / answers if answers else None

    def _count(self, batch: Batch) -> None:
        import torch

        texts = sorted(text.tobytes() for text in batch.ids.contiguous().numpy())  # in another order it is the same
        name = hashlib.blake2b(b"".join(texts), digest_size=8).digest()
        self._batches += 1
        self._repeated += name in self._known
        self._known.pop(name, None)
        self._known[name] = None  # the latest, at the end
        if len(self._known) > RECENT:
            del self._known[next(iter(self._known))]
        if batch.targets is None:
            return
        asked = batch.targets != IGNORED
        kept = batch.targets[asked]
        if batch.beside is not None:
            self._answers += len(kept)
            self._shown += int((batch.beside[asked] == kept).sum())
        if not kept.numel() or int(kept.min()) < 0:
            return
        found = torch.bincount(kept.reshape(-1))
        if self._counts is None or len(self._counts) < len(found):
            grown = torch.zeros(max(len(found), math.ceil(1.5 * len(found))), dtype=torch.int64)
            if self._counts is not None:
                grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[: len(found)] += found


def ids_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The token ids (texts, tokens) that a model is called with; None if it is called with none."""
    import torch

    given = [kwargs[n] for n in ("input_ids", "decoder_input_ids") if n in kwargs] or [*args, *kwargs.values()]
    kinds = (torch.int64, torch.int32, torch.int16, torch.uint8)
    return next((x for x in given if isinstance(x, torch.Tensor) and x.ndim == 2 and x.dtype in kinds), None)


def batch_of(ids: torch.Tensor, kwargs: dict[str, Any], objective: Objective) -> Batch:
    """What a model that is called with these ids is to learn."""
    labels, decoder, mask = (kwargs.get(name) for name in ("labels", "decoder_input_ids", "attention_mask"))
    if _same_shape(decoder, labels):
        return Batch(ids, labels, decoder)
    if _same_shape(labels, ids):
        if objective == "next token":
            return Batch(ids, labels[:, 1:])
        return Batch(ids, labels, ids if objective == "masked token" else None)
    if objective != "next token":
        return Batch(ids)
    return Batch(ids, (ids.masked_fill(mask == 0, IGNORED) if _same_shape(mask, ids) else ids)[:, 1:])


def _same_shape(one: Any, other: Any) -> TypeGuard[torch.Tensor]:
    """Whether both are tensors of one shape."""
    import torch

    return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape
