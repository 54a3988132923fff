"""A training run that faults can get at: model, data, steps of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from faults import corpus

Batch = Mapping[str, torch.Tensor]


@dataclass
class Training:
    """What a training script has at hand; a fault changes some of it."""

    model: torch.nn.Module
    architecture: str
    seed: int
    rate: float = 3e-3
    steps: int = 200
    warmup: int = 20
    texts: int = 16
    tokens: int = 32
    epsilon: float = 1e-8
    language: int = 0
    """Seed of the grammar."""
    rate_factor: float = 1.0
    changes: list[Callable[[Batch], Batch]] = field(default_factory=list)
    """What happens to a batch on its way to the model."""
    after_step: list[Callable[[], None]] = field(default_factory=list)
    step: int = 0

    def __post_init__(self) -> None:
        self.grammar = corpus.grammar(self.language)
        self.rng = np.random.default_rng([self.seed, 3])
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, made when it is first asked for: after a fault of the start was injected."""
        if self._optimizer is None:
            self._optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=self.current_rate(), betas=(0.9, 0.98), weight_decay=0.01,
                eps=self.epsilon,
            )
        return self._optimizer

    def clean_batch(self, rng: np.random.Generator, texts: int | None = None) -> dict[str, torch.Tensor]:
        """Ids and labels as transformers takes them."""
        ids = self.grammar.draw(rng, texts or self.texts, self.tokens)
        shown, labels = corpus.masked(ids, rng) if self.architecture == "bert" else (ids, ids)
        return {"input_ids": torch.from_numpy(shown), "labels": torch.from_numpy(labels)}

    def current_rate(self) -> float:
        """Rises over the warm-up, stays, falls to a tenth over the last third."""
        left = self.steps - self.step
        shape = min(1.0, (self.step + 1) / max(self.warmup, 1), max(0.1, 3 * left / self.steps))
        return self.rate * self.rate_factor * shape

    def advance(self) -> float:
        """One step; the loss before it."""
        batch: Batch = self.clean_batch(self.rng)
        for change in self.changes:
            batch = change(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.current_rate()
        self.optimizer.zero_grad()
        loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.step += 1
        for act in self.after_step:
            act()
        return float(loss.detach())

    def held_out_loss(self, texts: int = 128) -> float:
        """Loss of clean texts that no training shows, with the model as it is."""
        batch: dict[str, Any] = self.clean_batch(np.random.default_rng(99), texts)
        self.model.eval()
        with torch.no_grad():
            loss = float(self.model(**batch).loss)
        self.model.train()
        return loss
