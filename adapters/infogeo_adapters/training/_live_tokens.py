"""What the batches are that a model trains on: how often each target occurs, and whether batches come again."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from infogeo_adapters.training.probe import IGNORED, Objective

if TYPE_CHECKING:
    import torch

PENDING = 1 << 20
"""Tokens that wait on a device before they are counted, so that counting does not make it wait at each step."""

RECENT = 8
"""Different batches that are remembered: epochs over many batches, in order or not, are no repetition."""


Batch = tuple["torch.Tensor", "torch.Tensor | None", "torch.Tensor | None"]
"""Ids, targets, and what the model is given in the places of the targets."""


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
        batch = ids, targets_of(ids, kwargs, self._objective), inputs_beside_targets(ids, kwargs, self._objective)
        if ids.device.type == "cpu":
            self._count(*batch)
            return
        self._pending.append(tuple(None if x is None else x.detach().clone() for x in batch))  # type: ignore[arg-type]
        self._waiting += ids.numel()
        if self._waiting >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Count what waits on a device."""
        pending, self._pending, self._waiting = self._pending, [], 0
        for batch in pending:
            self._count(*(None if x is None else x.cpu() for x in batch))  # type: ignore[arg-type]

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

    def _count(self, ids: torch.Tensor, targets: torch.Tensor | None, inputs: torch.Tensor | None) -> None:
        import torch

        texts = sorted(text.tobytes() for text in ids.contiguous().numpy())  # in another order it is the same batch
        name = hashlib.blake2b(b"".join(texts), digest_size=8).digest()
        self._batches += 1
        self._repeated += name in self._known
        self._known.pop(name, None)
        self._known[name] = None  # the latest, at the end
        if len(self._known) > RECENT:
            del self._known[next(iter(self._known))]
        if targets is None:
            return
        if inputs is not None:
            asked = targets != IGNORED
            self._answers += int(asked.sum())
            self._shown += int(((inputs == targets) & asked).sum())
        kept = targets[targets != IGNORED]
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


def targets_of(ids: torch.Tensor, kwargs: dict[str, Any], objective: Objective) -> torch.Tensor | None:
    """What a batch asks the model to predict, -100 where nothing; None if the call does not say."""
    import torch

    labels = kwargs.get("labels")
    if isinstance(labels, torch.Tensor) and labels.shape == ids.shape:
        return labels[:, 1:] if objective == "next token" else labels
    if isinstance(labels, torch.Tensor) and _same_shape(kwargs.get("decoder_input_ids"), labels):
        return labels
    if objective != "next token":
        return None
    mask = kwargs.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        ids = ids.masked_fill(mask == 0, IGNORED)
    return ids[:, 1:]


def inputs_beside_targets(ids: torch.Tensor, kwargs: dict[str, Any], objective: Objective) -> torch.Tensor | None:
    """The tokens in the places of those that :func:`targets_of` gives, where these must not be shown there.

    Masked tokens must be masked, and the input of a decoder be shifted against what it is to predict. Causal models
    are given texts and the same texts as labels, and shift them.
    """
    labels, decoder = kwargs.get("labels"), kwargs.get("decoder_input_ids")
    if _same_shape(decoder, labels):
        return decoder
    return ids if objective == "masked token" and _same_shape(ids, labels) else None


def _same_shape(one: Any, other: Any) -> bool:
    import torch

    return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape
