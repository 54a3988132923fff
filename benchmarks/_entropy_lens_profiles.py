"""Continuations sampled from a model, and the entropy profile of chosen positions, all from token ids.

Nothing is decoded and tokenized again on the way: a continuation is profiled as the very tokens that were sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo.activations import LayerActivations
from infogeo_adapters import LanguageModel, logit_lens
from infogeo_adapters.transformers.alignment import Tokens
from infogeo_adapters.transformers.forward import batches_of
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import evaluating, find_stack, hooked, quiet, residual_stream, runner
from infogeo_adapters.transformers.token_rows import run_rows

BATCH_TOKENS = 8192
"""Tokens of one forward pass."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """What the lens says at the chosen positions of rows of tokens; one array (L + 1, positions) for each row."""

    entropy: list[np.ndarray]
    renyi: dict[float, list[np.ndarray]]
    set_size: list[np.ndarray]
    """Empty unless asked for."""
    top_ids: list[np.ndarray]
    top_probability: list[np.ndarray]


def encode(model: LanguageModel, text: str) -> np.ndarray:
    """Token ids of a text with the special tokens that the tokenizer puts before it, and none after it."""
    ids = model.tokenizer(text, verbose=False)["input_ids"]
    alone = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return np.asarray(ids[: len(ids) - _after(ids, alone)], dtype=np.int64)


def _after(ids: list[int], alone: list[int]) -> int:
    """How many special tokens stand behind the text's own."""
    before = next(i for i in range(len(ids)) if ids[i : i + len(alone)] == alone)
    return len(ids) - before - len(alone)


def begin(model: LanguageModel) -> np.ndarray:
    """The one token that stands before every text."""
    tokenizer = model.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise SystemExit(f"{model.name} has no token that begins a text; leave it out of --only families")
    return np.array([first], dtype=np.int64)


def continuations(
    model: LanguageModel, prompts: Sequence[np.ndarray], n_new: int, *, temperature: float | None, seed: int
) -> list[np.ndarray]:
    """``n_new`` tokens after each prompt (sampled, or the most probable where there is no temperature).

    Sampling is seeded for each batch in a random state of its own; an end token does not end a continuation. Prompts
    of one length run together, so that none is padded.
    """
    import torch
    from transformers import GenerationConfig

    if model.kind != "decoder":
        raise SystemExit(f"{model.name} ({model.kind}) writes no continuations; take a causal model")
    net = model.model
    limit = model.context_length
    longest = max(len(p) for p in prompts) + n_new
    if limit is not None and longest > limit:
        raise SystemExit(f"{model.name}: prompt and continuation take {longest} tokens, the context holds {limit}")
    sampling = {"do_sample": False} if temperature is None else {
        "do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0,
    }
    # -1 is no token: where there is None, generate puts the model's own end token
    config: Any = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=n_new, eos_token_id=-1, pad_token_id=0, use_cache=True, **sampling
    )
    found: list[Any] = [None] * len(prompts)
    devices = [net.device] if net.device.type == "cuda" else []
    with lock_of(net), evaluating(net), quiet(), torch.random.fork_rng(devices=devices):
        for number, batch in enumerate(batches_of([len(p) for p in prompts], BATCH_TOKENS, exact=False)):
            torch.manual_seed(seed * 1_000_003 + number)
            ids = torch.as_tensor(np.stack([prompts[i] for i in batch]), device=net.device)
            made: Any = net.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)  # type: ignore[operator]
            for i, row in zip(batch, made.cpu().numpy(), strict=True):
                found[i] = row[len(prompts[i]) :]
    return found


def profiles(
    model: LanguageModel, rows: Sequence[np.ndarray], places: Sequence[np.ndarray], *,
    renyi: tuple[float, ...] = (), top_p: float | None = None,
) -> Profiles:
    """The lens at the given places of rows of tokens, each row run whole in one pass."""
    n = len(rows)
    entropy, top_ids, best, sizes = ([np.empty(0)] * n for _ in range(4))
    orders: dict[float, list[np.ndarray]] = {a: [np.empty(0)] * n for a in renyi}
    stack = find_stack(model.model)
    for batch in batches_of([len(r) for r in rows], BATCH_TOKENS, exact=stack.pads_exactly):
        states = _states(model, [rows[i] for i in batch])
        chosen = np.concatenate([states[:, b, places[i]] for b, i in enumerate(batch)], axis=1)
        ids = np.concatenate([rows[i][places[i]] for i in batch])
        seen = logit_lens(model, activations(model, ids, chosen), compare=False, renyi=renyi, top_p=top_p)
        cuts = np.cumsum([len(places[i]) for i in batch])[:-1]
        for name, into in ((seen.entropy, entropy), (seen.top_ids[:, :, 0], top_ids), (seen.top_probability, best)):
            _deal(into, batch, np.split(name, cuts, axis=1))
        for a in renyi:
            _deal(orders[a], batch, np.split(seen.renyi[a], cuts, axis=1))
        if seen.set_size is not None:
            _deal(sizes, batch, np.split(seen.set_size, cuts, axis=1))
    return Profiles(entropy, orders, sizes if top_p is not None else [], top_ids, best)


def _deal(into: list[np.ndarray], places: list[int], parts: list[np.ndarray]) -> None:
    for i, part in zip(places, parts, strict=True):
        into[i] = part


def activations(model: LanguageModel, ids: np.ndarray, states: np.ndarray) -> LayerActivations:
    """Residual stream (L + 1, n, d) of single positions, as the lens takes it; the positions are no running text."""
    n = len(ids)
    return LayerActivations(
        text="", words=(), word_spans=np.empty((0, 2), dtype=np.int64), token_ids=ids,
        tokens=tuple(str(t) for t in model.tokenizer.convert_ids_to_tokens(ids.tolist())),
        token_spans=np.zeros((n, 2), dtype=np.int64), token_words=np.full(n, -1), special=np.zeros(n, dtype=bool),
        hidden_states=states, attention=None, attention_layers=(), causal=find_stack(model.model).causal,
        source=model.current_source(),
    )


def _states(model: LanguageModel, rows: list[np.ndarray]) -> np.ndarray:
    """Layers 0 to L of rows of tokens padded on the right, (L + 1, rows, tokens, d)."""
    stack = find_stack(model.model)
    part = runner(model.model)
    blocks = {stack.path: part.get_submodule(stack.path)}
    tokens = [
        Tokens(ids=r, spans=np.zeros((len(r), 2), np.int64), special=np.zeros(len(r), bool), types=np.zeros_like(r))
        for r in rows
    ]
    with lock_of(model.model), evaluating(model.model), hooked(blocks, all_inputs=False) as firings:
        run_rows(model, tokens)
        stream = residual_stream(stack, firings[stack.path])
    return np.stack([s.float().cpu().numpy() if s.dtype.itemsize < 4 else s.cpu().numpy() for s in stream])


def generated(
    model: LanguageModel, prompts: Sequence[np.ndarray], n_new: int, *, temperature: float | None, seed: int,
    renyi: tuple[float, ...] = (),
) -> tuple[list[np.ndarray], Profiles]:
    """Continuations, and the profiles of the positions that predicted their tokens, (L + 1, n_new) for each."""
    found = continuations(model, prompts, n_new, temperature=temperature, seed=seed)
    rows = [np.concatenate([p, c[:-1]]) for p, c in zip(prompts, found, strict=True)]
    places = [np.arange(len(p) - 1, len(p) - 1 + n_new) for p in prompts]
    return found, profiles(model, rows, places, renyi=renyi)


def changed_by_text(model: LanguageModel, prompts: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Share of the samples whose tokens change when prompt and continuation are decoded and tokenized again."""
    changed = 0
    for prompt, tokens in zip(prompts, found, strict=True):
        ids = np.concatenate([prompt, tokens])
        special = model.tokenizer.all_special_ids
        own = [int(i) for i in ids if i not in special]
        again = model.tokenizer(model.tokenizer.decode(own), add_special_tokens=False, verbose=False)["input_ids"]
        changed += list(again) != own
    return changed / len(prompts)


def held_out_loss(model: LanguageModel, rows: Sequence[np.ndarray]) -> float:
    """Mean cross-entropy of the next token over rows of tokens, in nats, from the model's own logits."""
    import torch

    total, count = 0.0, 0
    with lock_of(model.model), evaluating(model.model), quiet():
        for row in rows:
            ids = torch.as_tensor(row[None], device=model.model.device)
            logits = model.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(row) - 1
    return total / count
