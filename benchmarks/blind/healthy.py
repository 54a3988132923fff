"""Healthy runs of each setting, in variants that people use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from blind.cases import healthy, own_loss
from blind.settings import Training, Tutorial, bundled_tokenizer


@healthy("fine-tuning")
def plain_fine_tuning(t: Training) -> None:
    """Watched on held-out text of the manual."""


@healthy("fine-tuning")
def probe_of_stories(t: Training) -> None:
    """Watched on the packaged prose, which is the monitor's default."""
    t.watched = {"tokenizer": bundled_tokenizer()}


@healthy("fine-tuning")
def lower_half_frozen_on_purpose(t: Training) -> None:
    """Embeddings and the lower three blocks keep their weights, which is a usual way to fine-tune."""
    model: Any = t.model
    for part in (model.get_input_embeddings(), *model.model.layers[:3]):
        part.requires_grad_(False)


@healthy("fine-tuning")
def warmup_and_accumulation(t: Training) -> None:
    """Two batches of four to a step, a warmup and a linear decay to zero."""
    t.batch_size, t.accumulate, t.rate, t.schedule = 4, 2, 5e-4, lambda step: min((step + 1) / 10, (80 - step) / 70)


@healthy("fine-tuning")
def careful_rate(t: Training) -> None:
    """A rate of 3e-5, as recipes for fine-tuning have it."""
    t.rate = 3e-5


@healthy("classifier")
def plain_classifier(t: Training) -> None:
    """Watched on a held-out batch with labels."""


@healthy("classifier")
def default_probe(t: Training) -> None:
    """One line, as the manual has it: watched on the packaged prose, without labels."""
    t.watched = {}


@healthy("classifier")
def smoothed_labels_and_cosine(t: Training) -> None:
    """Label smoothing of 0.1 and a cosine schedule."""
    own_loss(t, lambda scores, labels: F.cross_entropy(scores, labels, label_smoothing=0.1))
    t.trainer = {"lr_scheduler_type": "cosine", "warmup_steps": 20, "weight_decay": 0.1}


@healthy("masked")
def plain_masked(t: Training) -> None:
    """Nothing changed."""


@healthy("masked")
def in_bfloat16(t: Training) -> None:
    """Autocast to bfloat16."""
    t.autocast = True


@healthy("masked")
def no_dropout_and_adam(t: Training) -> None:
    """Adam without decay, no dropout, a rate that falls with the root of the step."""
    t.optimizer, t.schedule = torch.optim.Adam, lambda step: min((step + 1) / 30, (30 / (step + 1)) ** 0.5)
    for module in t.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


@healthy("seq2seq")
def plain_seq2seq(t: Training) -> None:
    """Nothing changed."""


@healthy("seq2seq")
def smaller_batches(t: Training) -> None:
    """Batches of eight, with a lower rate."""
    t.batch_size, t.rate = 8, 1e-3


@healthy("tutorial")
def plain_tutorial(t: Training) -> None:
    """Nothing changed."""


@healthy("tutorial")
def norm_first(t: Training) -> None:
    """Normalization before attention and feed-forward, and GELU."""
    t.model = Tutorial(1000, norm_first=True, activation="gelu")


@healthy("tutorial")
def sgd_as_in_the_tutorial(t: Training) -> None:
    """SGD with a rate of 5 and gradients clipped at 0.5."""
    t.optimizer, t.rate, t.schedule = torch.optim.SGD, 5.0, lambda step: 0.95 ** (step // 60)


@healthy("tutorial")
def wide_batches_without_clipping(t: Training) -> None:
    """Batches of 32, dropout of 0.2, no clipping, a decay of 0.1."""
    t.model, t.batch_size, t.clip = Tutorial(1000, dropout=0.2), 32, None
    t.optimizer_options = {"weight_decay": 0.1}
