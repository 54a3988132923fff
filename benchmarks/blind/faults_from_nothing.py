"""Faults in a masked model, in a translation, and in a loop of plain torch."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from blind.cases import REFUSED, fault
from blind.settings import MASK, UNKNOWN, Batch, Training, Tutorial


@fault("masked", right="learning_rate_too_low untrained_layer")
def scheduler_counts_epochs(t: Training) -> None:
    """The rate falls to zero within as many steps as there are epochs, which is five."""
    t.schedule = lambda step: max(0.0, 1 - step / 5)


@fault("masked", right="shuffled_targets")
def targets_of_another_batch(t: Training) -> None:
    """Labels come from a queue that is one batch behind."""
    plain, behind = t.collate, [t.collate({name: values[:32] for name, values in t.data.items()})]

    def collate(batch: Batch) -> Batch:
        now = plain(batch)
        last, behind[0] = behind[0], now
        return {**now, "labels": last["labels"].repeat(2, 1)[: len(now["labels"])]}

    t.collate = collate


@fault("masked", right="label_leak")
def mask_not_applied(t: Training) -> None:
    """The masked copy is made, and the model is given the original."""
    t.then(lambda b: {**b, "input_ids": b["input_ids"].where(b["labels"] == -100, b["labels"])})


@fault("masked", relevant="label_leak constant_data")
def labels_are_an_alias(t: Training) -> None:
    """Labels were not cloned before masks were written in place, so that all of them are the mask."""
    t.then(lambda b: {**b, "labels": b["labels"].where(b["labels"] == -100, torch.tensor(MASK))})


@fault("masked", right="no_position_information")
def positions_all_zero(t: Training) -> None:
    """Positions are passed by hand and are zeros."""
    t.then(lambda b: {**b, "position_ids": torch.zeros_like(b["input_ids"])})


@fault("masked", right="vanishing_signal no_normalization", relevant="initialization_scale uniform_attention")
def epsilon_of_the_norm(t: Training) -> None:
    """LayerNorm's epsilon is ten: a key of the configuration was read as the wrong one."""
    for module in t.model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 10.0


@fault("masked", right="attention_entropy_collapse", relevant="initialization_scale exploding_signal")
def scores_not_divided(t: Training) -> None:
    """Attention scores are multiplied by a head's width where they should be divided by its root."""
    for module in t.model.modules():
        if hasattr(module, "scaling"):
            module.scaling = 16.0


@fault("seq2seq", right="label_leak sees_the_future")
def decoder_is_given_the_answer(t: Training) -> None:
    """The decoder's input is the labels themselves, not shifted."""
    t.then(lambda b: {**b, "decoder_input_ids": b["labels"].clamp(min=0)})


@fault("seq2seq", right="shuffled_targets")
def corpus_off_by_one_line(t: Training) -> None:
    """The file of targets lacks a line, so that each sentence has the translation of the one before."""
    t.data["labels"] = t.data["labels"].roll(1, 0)
    t.held_out["labels"] = t.held_out["labels"].roll(1, 0)


@fault("seq2seq", right="untrained_layer")
def optimizer_has_the_decoder_only(t: Training) -> None:
    """The optimizer was given the parameters of the decoder and the head, and not of the encoder."""
    t.parameters = lambda model: [p for name, p in model.named_parameters() if not name.startswith("encoder.")]


@fault("seq2seq", relevant="constant_data label_leak")
def padding_in_the_loss(t: Training) -> None:
    """Targets are padded to 32 with zeros, which count in the loss."""
    t.then(lambda b: {**b, "labels": F.pad(b["labels"].clamp(min=0), (0, 19))})


@fault("seq2seq", right="learning_rate_too_low", relevant="untrained_layer")
def rate_for_fine_tuning(t: Training) -> None:
    """A rate of 2e-6, from a recipe for fine-tuning, for a model that begins from nothing."""
    t.rate = 2e-6


@fault("seq2seq", relevant="uniform_attention dead_block")
def source_hidden(t: Training) -> None:
    """The mask of the source has ones on padding only, so the decoder cannot see what it is to translate."""
    t.then(lambda b: {**b, "attention_mask": 1 - b["attention_mask"]})


@fault("tutorial", right="sees_the_future label_leak")
def no_mask(t: Training) -> None:
    """The causal mask is not passed on."""
    t.model.masked = False


@fault("tutorial", right="gradients_kept exploding_gradient learning_rate_too_high")
def zero_grad_forgotten(t: Training) -> None:
    """Gradients are never set to zero, and add up; they are not clipped either."""
    t.zero_grad, t.clip = False, None


@fault("tutorial", right="learning_rate_too_low untrained_layer vanishing_gradient")
def clipped_away(t: Training) -> None:
    """Gradients are clipped to a norm of 1e-6, with SGD."""
    t.optimizer, t.rate, t.clip = torch.optim.SGD, 1.0, 1e-6


@fault("tutorial", relevant="no_position_information dead_head uniform_attention")
def batch_first_forgotten(t: Training) -> None:
    """Layers take the first axis for time, and so attend to the other texts of a batch."""
    t.model = Tutorial(1000, batch_first=False)


@fault("tutorial", right="constant_data")
def first_batch_for_ever(t: Training) -> None:
    """Each step takes ``next(iter(loader))`` of a loader that does not shuffle."""
    t.data = {name: values[: t.batch_size] for name, values in t.data.items()}


@fault("tutorial", right="constant_data")
def one_document_only(t: Training) -> None:
    """A pattern of file names matches one file: three batches, again and again."""
    t.data = {name: values[: 3 * t.batch_size] for name, values in t.data.items()}


@fault("tutorial", right="duplicated_layer")
def one_layer_many_times(t: Training) -> None:
    """The stack is a list of the same layer three times over."""
    t.model.layers = nn.ModuleList([t.model.layers[0]] * 3)


@fault("tutorial", right="duplicated_layer")
def layers_are_copies(t: Training) -> None:
    """All layers are deep copies of one, as ``nn.TransformerEncoder`` makes them, so they begin with equal weights."""
    t.model.layers = nn.ModuleList(copy.deepcopy(t.model.layers[0]) for _ in range(3))


class TimeNorm(nn.LayerNorm):
    """Normalizes over time."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        centered = given - given.mean(1, keepdim=True)
        return centered / (centered.square().mean(1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


@fault("tutorial", right="sees_the_future label_leak")
def normalized_over_time(t: Training) -> None:
    """A norm of one's own works over the axis of time."""
    for layer in t.model.layers:
        layer.norm1 = TimeNorm(80, eps=1e-6)


@fault("tutorial", right="label_leak")
def shifted_the_wrong_way(t: Training) -> None:
    """Targets are the words before, not the words after."""
    t.loss = lambda model, b: F.cross_entropy(
        model(b["input_ids"])[:, 1:].flatten(0, 1), b["input_ids"][:, :-1].flatten()
    )


@fault("tutorial", right="not_finite")
def mean_over_nothing(t: Training) -> None:
    """A mean over known words by hand; step 110 has a batch without any, and zero is divided by zero."""

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        targets = batch["input_ids"][:, 1:].flatten()
        each = F.cross_entropy(model(batch["input_ids"])[:, :-1].flatten(0, 1), targets, reduction="none")
        known = (targets != UNKNOWN).float()
        return (each * known).sum() / known.sum()

    t.loss = loss
    t.events[110] = lambda t, _: t.then(lambda b: {"input_ids": torch.full_like(b["input_ids"], UNKNOWN)})
    t.events[111] = lambda t, _: setattr(t, "collate", lambda b: b)


@fault("tutorial", right=f"untrained_layer learning_rate_too_low {REFUSED}")
def model_made_anew(t: Training) -> None:
    """After the optimizer was made, the model was made once more: what is optimized is not what is trained."""
    t.optimized = Tutorial(1000)
