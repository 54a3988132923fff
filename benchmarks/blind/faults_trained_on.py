"""Faults in fine-tuning the bundled Llama, and in a classifier with the ``Trainer``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from blind.cases import fault, own_loss
from blind.settings import Training, bundled_tokenizer


@fault("fine-tuning", relevant="initialization_scale")
def another_tokenizer(t: Training) -> None:
    """The text was tokenized with a tokenizer of the same size that was trained anew, so ids mean other tokens."""
    other = torch.randperm(4096, generator=torch.Generator().manual_seed(5))
    t.then(lambda batch: {name: other[values] for name, values in batch.items()})


@fault("fine-tuning", right="initialization_scale")
def embedding_replaced(t: Training) -> None:
    """Embeddings were made anew as torch does by default, with a standard deviation of one, and tied to the head."""
    model: Any = t.model
    model.set_input_embeddings(nn.Embedding(4096, model.config.hidden_size))
    model.tie_weights()


@fault("fine-tuning", right="untrained_layer")
def blocks_missing_in_optimizer(t: Training) -> None:
    """Groups of parameters were made by names, and no pattern matches the first three blocks."""
    t.parameters = lambda model: [
        p for name, p in model.named_parameters() if not any(f"layers.{i}." in name for i in (0, 1, 2))
    ]


@fault("fine-tuning", right="label_leak")
def labels_not_shifted(t: Training) -> None:
    """A loss of one's own compares the scores of each token with the same token."""
    own_loss(t, lambda scores, labels: F.cross_entropy(scores.flatten(0, 1), labels.flatten()))


@fault("fine-tuning", relevant="shuffled_targets")
def labels_shifted_twice(t: Training) -> None:
    """The data set shifts labels, and the model shifts them once more."""
    t.then(lambda batch: {**batch, "labels": F.pad(batch["labels"][:, 1:], (0, 1), value=-100)})


@fault("fine-tuning", relevant="learning_rate_too_high exploding_signal exploding_gradient shuffled_targets")
def sign_of_the_loss(t: Training) -> None:
    """The mean log-probability is minimized: the sign is wrong."""
    plain = t.loss
    t.loss = lambda model, batch: -plain(model, batch)


@fault("fine-tuning", right="untrained_layer vanishing_gradient")
def detached_stream(t: Training) -> None:
    """A detach, left over from looking at the states, cuts the stream after the third block."""
    model: Any = t.model
    model.model.layers[2].register_forward_hook(lambda _module, _given, out: out.detach())


@fault("fine-tuning", right="learning_rate_too_high")
def rate_of_another_optimizer(t: Training) -> None:
    """A rate of 0.1, which had been good for SGD, with AdamW."""
    t.rate = 0.1


@fault("fine-tuning", right="untrained_layer learning_rate_too_low")
def updates_rounded_away(t: Training) -> None:
    """Weights are in bfloat16, and steps of 3e-6 are below half a unit in their last place."""
    t.model.to(torch.bfloat16)
    t.rate, t.steps = 3e-6, 60


@fault("fine-tuning", relevant="dead_block initialization_scale")
def block_lost_in_mid_run(t: Training) -> None:
    """When the run was resumed at step 40, names of the fourth block did not match, and it began anew."""

    def reset(t: Training, _: torch.optim.Optimizer) -> None:
        model: Any = t.model
        for module in model.model.layers[3].modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    t.events[40] = reset


@fault("fine-tuning", right="learning_rate_too_high", relevant="exploding_gradient exploding_signal")
def rate_spike(t: Training) -> None:
    """The scheduler was restarted with another peak: for six steps the rate is three hundred times as high."""
    t.schedule = lambda step: 300.0 if 40 <= step < 46 else 1.0


@fault("classifier", relevant="uniform_attention over_smoothing no_position_information")
def padding_mask_inverted(t: Training) -> None:
    """The attention mask has ones where there is padding, as the masks of torch have."""
    t.then(lambda batch: {**batch, "attention_mask": 1 - batch["attention_mask"]})


@fault("classifier", right="shuffled_targets")
def texts_shuffled_without_labels(t: Training) -> None:
    """Texts were shuffled, labels were not."""
    order = torch.randperm(len(t.data["labels"]), generator=torch.Generator().manual_seed(3))
    t.data["labels"] = t.data["labels"][order]
    t.held_out["labels"] = t.held_out["labels"].roll(5)


@fault("classifier", relevant="vanishing_gradient learning_rate_too_low")
def softmax_twice(t: Training) -> None:
    """Probabilities are given to a cross-entropy that takes scores."""
    own_loss(t, lambda scores, labels: F.cross_entropy(scores.softmax(-1), labels))


@fault("classifier", relevant="constant_data")
def sorted_by_class(t: Training) -> None:
    """The file lists one class after another, and rows are not shuffled."""
    order = t.data["labels"].argsort(stable=True)
    t.data = {name: values[order] for name, values in t.data.items()}
    t.shuffle = False


@fault("classifier", relevant="vanishing_signal uniform_attention dead_block learning_rate_too_high")
def weight_decay_too_strong(t: Training) -> None:
    """A weight decay of 20, where 0.01 to 0.1 is usual."""
    t.trainer = {**(t.trainer or {}), "weight_decay": 20.0}


@fault("classifier", right="constant_data", relevant="over_smoothing rank_collapse no_position_information")
def vocabulary_of_unknowns(t: Training) -> None:
    """The vocabulary file is of another language: all tokens but those of begin and padding become the unknown one."""
    keep = torch.tensor([bundled_tokenizer().bos_token_id, bundled_tokenizer().pad_token_id])
    t.then(lambda b: {**b, "input_ids": b["input_ids"].where(torch.isin(b["input_ids"], keep), torch.tensor(99))})


@fault("classifier", right="untrained_layer")
def untrained_encoder_frozen(t: Training) -> None:
    """Lines that freeze an encoder were copied, but this one was made from a configuration, not loaded."""
    model: Any = t.model
    model.bert.requires_grad_(False)


@fault("classifier", relevant="learning_rate_too_low uniform_attention dead_head vanishing_gradient")
def dropout_keeps_too_little(t: Training) -> None:
    """A dropout of 0.95, by somebody who took it for the share to keep."""
    for module in t.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.95
