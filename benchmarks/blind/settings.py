"""Five trainings as their owners would write them: which model on which text, and the loop around them.

A fault changes one thing of a :class:`Training` before it begins. All texts are at hand on every machine with Python
and infogeo: the manual and the sources of the standard library, the packaged prose, and a made-up translation.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Batch = dict[str, torch.Tensor]

MODULES = ("argparse", "tarfile", "turtle", "doctest")
"""Sources of the standard library; the classifier is to say of which of them a piece is."""
UNKNOWN, MASK = 1, 2
"""Ids of a word that is not in the vocabulary, and of a masked letter; 0 is padding."""


@dataclass
class Training:
    """A training before it begins; rows of ``data`` are collated into batches, ``held_out`` too for the monitor."""

    model: Any
    data: Batch
    held_out: Batch
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    rate: float
    steps: int
    every: int
    seed: int
    batch_size: int = 16
    collate: Callable[[Batch], Batch] = lambda batch: batch
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    schedule: Callable[[int], float] = lambda step: 1.0
    clip: float | None = 1.0
    accumulate: int = 1
    zero_grad: bool = True
    shuffle: bool = True
    autocast: bool = False
    trainer: dict[str, Any] | None = None
    """Arguments for the ``Trainer`` of transformers; without them the loop is plain torch."""
    watched: dict[str, Any] = field(default_factory=dict)
    """What the monitor is told beside model and optimizer; None as probe is the collated ``held_out``."""
    parameters: Callable[[nn.Module], Any] = lambda model: [p for p in model.parameters() if p.requires_grad]
    optimized: Any = None
    """The model whose parameters the optimizer gets, if that is another one."""
    events: dict[int, Callable[[Training, torch.optim.Optimizer], None]] = field(default_factory=dict)

    def then(self, change: Callable[[Batch], Batch]) -> None:
        """Change batches after they are collated."""
        before = self.collate
        self.collate = lambda batch: change(before(batch))

    def batches(self) -> Iterator[Batch]:
        """Epoch after epoch."""
        generator = torch.Generator().manual_seed(self.seed)
        n = len(next(iter(self.data.values())))
        while True:
            order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
            for rows in order[: n - n % self.batch_size].split(self.batch_size):
                yield self.collate({name: values[rows] for name, values in self.data.items()})

    def monitor(self, folder: Path, **more: Any) -> Any:
        """The monitor as the owner of this training would make it."""
        from infogeo_adapters import TrainingMonitor

        probe = self.collate(dict(self.held_out)) if self.watched.get("probe", 0) is None else None
        if probe and probe.get("labels", probe["input_ids"]).shape != probe["input_ids"].shape:
            del probe["labels"]  # the monitor takes no labels but those of tokens
        given = {**self.watched, **({} if probe is None else {"probe": probe}), **more}
        if set(probe or ()) == {"input_ids"}:
            given["probe"] = probe["input_ids"]  # type: ignore[index]
        if self.autocast:
            given["number_format"] = "bfloat16"
        return TrainingMonitor(folder=folder, every=self.every, **given)


def run_loop(t: Training, folder: Path | None) -> list[float]:
    """Train in plain torch, watched if there is a folder; the losses."""
    t.model.train()
    optimizer = t.optimizer(t.parameters(t.optimized or t.model), lr=t.rate, **t.optimizer_options)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, t.schedule)
    batches, losses = t.batches(), []
    watching = contextlib.nullcontext() if folder is None else t.monitor(folder, model=t.model, optimizer=optimizer)
    with watching as monitor:
        for step in range(t.steps):
            t.events.get(step, lambda *_: None)(t, optimizer)
            told = []
            for _ in range(t.accumulate):
                with torch.autocast("cpu", torch.bfloat16, enabled=t.autocast):
                    loss = t.loss(t.model, next(batches))
                (loss / t.accumulate).backward()
                told.append(float(loss.detach()))
            if t.clip is not None:
                nn.utils.clip_grad_norm_(t.model.parameters(), t.clip)
            optimizer.step()
            scheduler.step()
            if t.zero_grad:
                optimizer.zero_grad()
            losses.append(sum(told) / len(told))
            if monitor is not None:
                monitor.observe(losses[-1])
    return losses


class Rows(torch.utils.data.Dataset[Batch]):
    """Rows of a table of tensors, one after another."""

    def __init__(self, data: Batch) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def __getitem__(self, row: int) -> Batch:
        return {name: values[row] for name, values in self.data.items()}


def run_trainer(t: Training, folder: Path | None, scratch: Path) -> list[float]:
    """Train with the ``Trainer`` of transformers, watched if there is a folder; the losses."""
    from transformers import Trainer, TrainingArguments

    losses: list[float] = []

    class Owned(Trainer):
        """The training's own loss, and its own order of the rows."""

        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            loss = t.loss(model, inputs)
            losses.append(float(loss.detach()))
            return loss

        def _get_train_sampler(self, *_: Any) -> Any:
            return super()._get_train_sampler() if t.shuffle else torch.utils.data.SequentialSampler(Rows(t.data))

    arguments = TrainingArguments(
        output_dir=str(scratch), max_steps=t.steps, learning_rate=t.rate, per_device_train_batch_size=t.batch_size,
        use_cpu=True, report_to=[], save_strategy="no", logging_steps=25, disable_tqdm=True, seed=t.seed,
        remove_unused_columns=False, dataloader_drop_last=True, **(t.trainer or {}),
    )
    trainer = Owned(
        model=t.model, args=arguments, train_dataset=Rows(t.data), processing_class=bundled_tokenizer(),
        data_collator=lambda rows: t.collate({name: torch.stack([row[name] for row in rows]) for name in rows[0]}),
    )
    if folder is not None:
        trainer.add_callback(t.monitor(folder))
    trainer.train()
    return losses


@cache
def bundled_tokenizer() -> Any:
    """The tokenizer of the model that ships with infogeo."""
    from infogeo_adapters import load_model

    return load_model().tokenizer


@cache
def manual() -> str:
    """The language reference that comes with Python for its ``help``."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics[name] for name in sorted(topics))


def rows_of(ids: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows to train on, and the last sixteen of them for the monitor."""
    rows = ids[: len(ids) - len(ids) % width].reshape(-1, width)
    return rows[:-16], rows[-16:]


def returned_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The loss that a model of transformers returns when it is given labels."""
    loss: torch.Tensor = model(**batch).loss
    return loss


def with_labels(batch: Batch) -> Batch:
    """Labels are the ids; a causal model of transformers shifts them."""
    return {**batch, "labels": batch["input_ids"]}


def fine_tuning(seed: int) -> Training:
    """The bundled Llama, which has read old storybooks, goes on with the manual of Python."""
    from infogeo_adapters import load_model

    data, held_out = rows_of(torch.tensor(bundled_tokenizer()(manual()[:300_000]).input_ids), 48)
    return Training(
        model=load_model().model, data={"input_ids": data}, held_out={"input_ids": held_out}, loss=returned_loss,
        collate=with_labels, rate=3e-4, steps=80, every=20, seed=seed, batch_size=6, watched={"probe": None},
    )


@cache
def pieces() -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces of source code, padded, and the module that each is from."""
    tokenizer, ids, labels = bundled_tokenizer(), [], []
    for label, name in enumerate(MODULES):
        origin = importlib.util.find_spec(name).origin  # type: ignore[union-attr]
        source = Path(origin).read_text("utf-8")  # type: ignore[arg-type]
        found = [tokenizer.bos_token_id, *tokenizer(source[5_000:55_000]).input_ids[1:]]
        starts = range(0, len(found) - 40, 40)
        for at in starts:
            length = 12 + at * 7919 % 29
            ids.append(found[:1] + found[at + 1 : at + length] + [tokenizer.pad_token_id] * (40 - length))
            labels.append(label)
    return torch.tensor(ids), torch.tensor(labels)


def classifier(seed: int) -> Training:
    """A small BERT learns with the ``Trainer`` to tell of which of four modules a piece of source code is."""
    from transformers import BertConfig, BertForSequenceClassification

    pad = bundled_tokenizer().pad_token_id
    config = BertConfig(  # type: ignore[call-arg]
        vocab_size=4096, hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=64, num_labels=len(MODULES), pad_token_id=pad,
    )
    ids, labels = pieces()
    rows = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    table = {"input_ids": ids[rows], "labels": labels[rows]}
    return Training(
        model=BertForSequenceClassification(config), data={name: values[:-16] for name, values in table.items()},
        held_out={name: values[-16:] for name, values in table.items()}, loss=returned_loss,
        collate=lambda batch: {**batch, "attention_mask": (batch["input_ids"] != pad).long()},
        rate=1e-3, steps=200, every=50, seed=seed, batch_size=32, watched={"probe": None},
        trainer={"lr_scheduler_type": "linear", "warmup_steps": 20, "weight_decay": 0.01},
    )


def masked_fields(seed: int) -> Callable[[Batch], Batch]:
    """Mask 15 % of the fields; labels are the words under the masks."""
    generator = torch.Generator().manual_seed(seed)

    def mask(batch: Batch) -> Batch:
        ids = batch["input_ids"]
        chosen = torch.rand(ids.shape, generator=generator) < 0.15
        return {"input_ids": ids.masked_fill(chosen, MASK), "labels": ids.masked_fill(~chosen, -100)}

    return mask


def masked(seed: int) -> Training:
    """A small RoBERTa guesses masked fields of records: columns have words of their own, and come in pairs."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    generator = torch.Generator().manual_seed(11)
    told = torch.randint(0, 8, (2016, 8), generator=generator)
    rule = torch.stack([torch.randperm(8, generator=generator) for _ in range(8)])
    follows = rule[torch.arange(8), told]
    records = torch.stack([told, follows], -1).flatten(1) + 8 * torch.arange(16) + 3
    config = RobertaConfig(
        vocab_size=131, hidden_size=80, num_hidden_layers=3, num_attention_heads=5, intermediate_size=240,
        max_position_embeddings=24, pad_token_id=0,
    )
    return Training(
        model=RobertaForMaskedLM(config), data={"input_ids": records[:-16]}, held_out={"input_ids": records[-16:]},
        collate=masked_fields(seed), loss=returned_loss, rate=2e-3, steps=300, every=60, seed=seed, batch_size=32,
        schedule=lambda step: min(1.0, (step + 1) / 20), watched={"probe": None},
    )


def seq2seq(seed: int) -> Training:
    """A small T5 translates made-up sentences: every word has one translation, and pairs of words change places."""
    from transformers import T5Config, T5ForConditionalGeneration

    generator = torch.Generator().manual_seed(7)
    source = torch.randint(3, 33, (2016, 13), generator=generator)
    dictionary = 3 + torch.randperm(30, generator=generator)
    swapped = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12])
    target = dictionary[source - 3][:, swapped]
    length = torch.randint(3, 7, (2016, 1), generator=generator) * 2
    at = torch.arange(13)
    source = torch.where(at < length, source, torch.where(at == length, 1, 0))
    target = torch.where(at < length, target, torch.where(at == length, 1, -100))
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=40, d_model=64, d_kv=16, d_ff=160, num_layers=3, num_heads=4, decoder_start_token_id=0,
        dropout_rate=0.05,
    )
    table = {"input_ids": source, "attention_mask": (source != 0).long(), "labels": target}
    return Training(
        model=T5ForConditionalGeneration(config), data={name: values[:-16] for name, values in table.items()},
        held_out={name: values[-16:] for name, values in table.items()}, loss=returned_loss, rate=3e-3, steps=200,
        every=50, seed=seed, batch_size=32, watched={"probe": None},
    )


class Tutorial(nn.Module):
    """The language model of a well-known tutorial: encoder layers of torch with a mask, and sines for positions."""

    places: torch.Tensor

    def __init__(self, vocabulary: int, *, width: int = 80, depth: int = 3, **options: Any) -> None:
        super().__init__()
        self.embedding, self.width, self.masked = nn.Embedding(vocabulary, width), width, True
        self.layers = nn.ModuleList(self.layer(**options) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        angles = torch.arange(64.0)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        self.register_buffer("places", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)

    def layer(self, **options: Any) -> nn.TransformerEncoderLayer:
        """One layer."""
        given: dict[str, Any] = {"dim_feedforward": 200, "dropout": 0.1, "batch_first": True, **options}
        return nn.TransformerEncoderLayer(self.width, 4, **given)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(input_ids) * math.sqrt(self.width) + self.places[: input_ids.shape[1]]
        attention: Any = self.layers[0].self_attn
        first = x.shape[1] if attention.batch_first else x.shape[0]
        mask = nn.Transformer.generate_square_subsequent_mask(first, dtype=x.dtype) if self.masked else None
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=mask is not None)
        scores: torch.Tensor = self.head(x)
        return scores


def next_word(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of each next word."""
    ids = batch["input_ids"]
    return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def tutorial(seed: int) -> Training:
    """Plain torch: encoder layers with a causal mask learn the words of the manual of Python."""
    words = re.findall(r"[a-z]+|[^a-z\s]", manual()[:300_000].lower())
    vocabulary = {word: i for i, (word, _) in enumerate(Counter(words).most_common(998), 2)}
    data, held_out = rows_of(torch.tensor([vocabulary.get(word, UNKNOWN) for word in words]), 32)
    return Training(
        model=Tutorial(1000), data={"input_ids": data}, held_out={"input_ids": held_out}, loss=next_word, rate=1e-3,
        steps=200, every=50, seed=seed, schedule=lambda step: min(1.0, (step + 1) / 20), clip=0.5,
        watched={"probe": None, "blocks": "layers", "objective": "next token"},
    )


SETTINGS: dict[str, Callable[[int], Training]] = {
    "fine-tuning": fine_tuning, "classifier": classifier, "masked": masked, "seq2seq": seq2seq, "tutorial": tutorial,
}


def run(t: Training, folder: Path | None, scratch: Path) -> list[float]:
    """Train in the loop that the setting has."""
    return run_loop(t, folder) if t.trainer is None else run_trainer(t, folder, scratch)
