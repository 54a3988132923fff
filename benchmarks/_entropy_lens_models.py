"""Small language models of several families, trained on one text: members for the experiments of ``entropy_lens.py``.

Each family has a member for each depth, with a seed of its own, so that depth says nothing about the family. What is
trained is kept in a folder and found again; a training that was interrupted goes on from its last saved step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infogeo_adapters.models import bundled_path

SAVE_EVERY = 40
"""Steps between two saved states."""
STRETCH = 20_000
"""Characters of one stretch of the training text."""


@dataclass(frozen=True)
class Training:
    """Everything that decides the weights of the members, apart from family, depth, seed and text."""

    width: int = 96
    heads: int = 4
    steps: int = 240
    windows: int = 16
    """Windows of the text in one step."""
    length: int = 128
    """Tokens of a window."""
    matrix_rate: float = 0.02
    other_rate: float = 3e-3
    characters: int = 12_000_000
    """Characters of the training text that are used, in stretches spread evenly over it."""

    def rate(self, step: int) -> float:
        """Factor on the learning rates: linear warm-up over a twentieth, linear decay over the last third."""
        return min(1.0, (step + 1) / max(1, self.steps // 20), (self.steps - step) / max(1, self.steps // 3))


@dataclass(frozen=True, order=True)
class Member:
    """One model of a family."""

    family: str
    depth: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.family}-{self.depth}-seed{self.seed}"


FAMILIES = ("gpt2", "llama", "neox", "opt", "gemma2")
"""Families that can be trained, with what is their own: position codes, norms, parallel blocks, soft-capping."""


def members(families: list[str], depths: list[int]) -> list[Member]:
    """One member for each family and depth; the seed is the number of the depth."""
    return [Member(family, depth, seed) for family in families for seed, depth in enumerate(depths)]


def network(member: Member, training: Training, vocabulary: int) -> Any:
    """The untrained network of a member; the same seed gives the same weights."""
    import torch
    import transformers

    d, n, h = training.width, member.depth, training.heads
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, "vocab_size": vocabulary}
    usual = {"hidden_size": d, "num_hidden_layers": n, "num_attention_heads": h, "max_position_embeddings": 512}
    settings: dict[str, tuple[str, str, dict[str, Any]]] = {
        "gpt2": ("GPT2LMHeadModel", "GPT2Config", {
            "n_embd": d, "n_layer": n, "n_head": h, "n_positions": 512, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }),
        "llama": ("LlamaForCausalLM", "LlamaConfig", {**usual, "intermediate_size": 8 * d // 3,
                                                      "tie_word_embeddings": True}),
        "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**usual, "intermediate_size": 4 * d}),
        "opt": ("OPTForCausalLM", "OPTConfig", {**usual, "ffn_dim": 4 * d, "word_embed_proj_dim": d, "dropout": 0.0}),
        "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {
            **usual, "num_key_value_heads": max(1, h // 2), "head_dim": d // h, "intermediate_size": 8 * d // 3,
            "query_pre_attn_scalar": d // h,
        }),
    }
    if member.family not in settings:
        raise SystemExit(f"family {member.family!r} cannot be trained; choose {', '.join(settings)}")
    model_class, config_class, own = settings[member.family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(member.seed)
        return getattr(transformers, model_class)(getattr(transformers, config_class)(**ids, **own))


def tokens_of(text_path: Path, folder: Path, characters: int) -> tuple[Any, np.ndarray]:
    """The bundled tokenizer, and the ids of evenly spaced stretches of a text; made once and kept in the folder."""
    from transformers import PreTrainedTokenizerFast

    from infogeo_adapters.models.train import read_text, tokenize

    tokenizer = PreTrainedTokenizerFast.from_pretrained(bundled_path())
    settings = {"text": text_path.name, "text_bytes": text_path.stat().st_size, "characters": characters}
    _same(folder / "text.json", settings)
    kept = folder / "ids.npy"
    if not kept.exists():
        text = read_text(text_path)
        count = max(1, min(characters, len(text)) // STRETCH)
        starts = np.linspace(0, max(0, len(text) - STRETCH), count).astype(int)
        pieces = [text[a : a + STRETCH].split("\n\n", 1)[-1].rsplit("\n\n", 1)[0] for a in starts]
        ids = tokenize(tokenizer, "\n\n".join(pieces))
        with (folder / "ids.partial.npy").open("wb") as file:
            np.save(file, ids)
        os.replace(folder / "ids.partial.npy", kept)
    return tokenizer, np.load(kept)


def trained_members(
    wanted: list[Member], training: Training, *, text_path: Path | None, folder: Path, minutes: float
) -> Iterator[tuple[Member, Path]]:
    """Each member with its folder, trained first where it is not yet.

    Ends early when the minutes are used up; without a text, members that are not trained are left out.
    """
    clock = time.perf_counter()
    if text_path is not None or (folder / "training.json").exists():
        _same(folder / "training.json", asdict(training))
    for member in wanted:
        at = folder / member.name
        if not (at / "trained.json").exists():
            if text_path is None:
                print(f"{member.name} is left out: not trained yet, give a text with --text", file=sys.stderr)
                continue
            left = minutes - (time.perf_counter() - clock) / 60
            if left <= 0 or not _train(member, training, text_path, at, left):
                print(f"{minutes:g} minutes of training are used up before {member.name}; run again to go on",
                      file=sys.stderr)
                return
        yield member, at


def _same(path: Path, settings: dict[str, Any]) -> None:
    """Record settings beside what was made with them; refuse a folder made with others."""
    if path.exists():
        before = json.loads(path.read_text())
        changed = [f"{k}: {before.get(k)!r} there, {v!r} now" for k, v in settings.items() if before.get(k) != v]
        if changed:
            raise SystemExit(f"{path} is of other settings ({'; '.join(changed)}); name another --cache folder")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n")


def _train(member: Member, training: Training, text_path: Path, at: Path, minutes: float) -> bool:
    """Train one member to the end; False if the minutes did not suffice (what is done is saved)."""
    import torch

    from infogeo_adapters.models.train import batch, loss_of, starts_of_windows

    tokenizer, ids = tokens_of(text_path, at.parent, training.characters)
    net = network(member, training, len(tokenizer)).train()
    optimizers = _optimizers(net, training)
    newline = int(tokenizer.convert_tokens_to_ids("Ċ"))
    starts = starts_of_windows(ids, training.length, newline)
    order = np.random.default_rng(member.seed).permutation(len(starts))
    held, order = order[: training.windows], order[training.windows :]
    at.mkdir(parents=True, exist_ok=True)
    state_path = at / "state.pt"
    first, spent = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, spent = state["step"], state["seconds"]

    clock, processor = time.perf_counter(), time.process_time()
    for step in range(first, training.steps):
        x = batch(ids, starts, order, step * training.windows, training.windows, training.length, 0)
        loss = loss_of(net, x)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * training.rate(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if not np.isfinite(loss.item()):
            raise SystemExit(f"{member.name}: the loss is {loss.item()} at step {step}; lower the rates")
        late = time.perf_counter() - clock > 60 * minutes
        passed = spent + time.process_time() - processor
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == training.steps or late:
            state = {"step": step + 1, "seconds": passed, "model": net.state_dict(),
                     "optimizers": [o.state_dict() for o, _ in optimizers]}
            torch.save(state, at / "state.partial.pt")
            os.replace(at / "state.partial.pt", state_path)
        if (step + 1) % SAVE_EVERY == 0:
            print(f"{member.name}: step {step + 1} of {training.steps}, loss {loss.item():.3f}, {passed:.0f} s of the "
                  "processor",
                  file=sys.stderr, flush=True)
        if late and step + 1 < training.steps:
            return False
    with torch.no_grad():
        dev = batch(ids, starts, held, 0, len(held), training.length, 0)
        found = float(loss_of(net.eval(), dev))
    net.save_pretrained(at)
    (at / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(at)
    record = {**asdict(member), **asdict(training), "held_out_loss": found, "parameters": net.num_parameters(),
              "processor_seconds": round(spent + time.process_time() - processor, 1)}
    (at / "trained.json").write_text(json.dumps(record, indent=2) + "\n")
    state_path.unlink(missing_ok=True)
    return True


def _optimizers(net: Any, training: Training) -> list[tuple[Any, float]]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, head, norms and biases."""
    import torch

    outer = {id(m.weight) for m in net.modules() if isinstance(m, torch.nn.Embedding)}
    outer.add(id(net.get_output_embeddings().weight))
    inside = [p for p in net.parameters() if p.ndim == 2 and id(p) not in outer]
    others = [p for p in net.parameters() if p.ndim != 2 or id(p) in outer]
    muon = torch.optim.Muon(inside, lr=training.matrix_rate, weight_decay=0.01)
    adam = torch.optim.AdamW(others, lr=training.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [(muon, training.matrix_rate), (adam, training.other_rate)]
