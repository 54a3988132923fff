"""Train the bundled language model from a text file.

The whole recipe of the model that ships with infogeo: a byte-level BPE tokenizer, a Llama-type causal
language model, Muon for the matrices and AdamW for the rest, less than one pass over the text. Run it as ::

    python -m infogeo_adapters.models.train --text children-train.txt.xz --run runs/bundled

The run folder holds everything: the tokenizer, the tokenised text, ``log.jsonl``, ``state.pt`` (written
every ``--save-every`` steps, replaced atomically) and ``checkpoints/step-NNNNNN/``. Started again with the
same folder it goes on where it stopped; with other settings it refuses. Windows are a function of the seed
and the step alone, so an interrupted run sees the same text as one that was not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from infogeo_adapters.models.install import DEV_SHARE

BOS, PAD = "<|begin|>", "<|pad|>"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, apart from the text and the library versions."""

    vocab_size: int = 4096
    hidden_size: int = 160
    n_layers: int = 6
    n_heads: int = 5
    intermediate_size: int = 432
    context: int = 512
    """Longest input. Training uses half of it, and all of it while the rate decays."""
    tokens_per_step: int = 12_288
    steps: int = 2200
    warmup: int = 100
    decay_share: float = 0.25
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    weight_decay: float = 0.01
    seed: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rates: linear warm-up, constant, linear decay."""
        left = (self.steps - step) / (self.decay_share * self.steps)
        return min(1.0, (step + 1) / self.warmup, left)

    def window(self, step: int) -> int:
        """Length of the training windows at a step."""
        decaying = step >= self.steps * (1 - self.decay_share)
        return self.context if decaying else self.context // 2


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, xz-compressed or plain."""
    data = path.read_bytes()
    return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8")


def train_tokenizer(text: str, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt on every eighth stretch of 100,000 characters; a begin token opens each text."""
    stretch = 100_000
    sample = (text[i : i + stretch] for i in range(0, len(text), 8 * stretch))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sample,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[BOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)]),
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str) -> np.ndarray:
    """All token ids of a long text, as uint16; cut at paragraph ends so that no token spans a cut."""
    paragraphs = text.split("\n\n")
    pieces, size = [], 2000
    for i in tqdm(range(0, len(paragraphs), size), desc="tokenising", unit="block"):
        block = [p + "\n\n" for p in paragraphs[i : i + size]]
        encoded = tokenizer.backend_tokenizer.encode_batch_fast(block, add_special_tokens=False)
        pieces.append(np.fromiter((t for e in encoded for t in e.ids), dtype=np.uint16))
    return np.concatenate(pieces)


def starts_of_windows(ids: np.ndarray, length: int, newline: int) -> np.ndarray:
    """First tokens of windows of ``length``, each moved to the next paragraph start where one is near."""
    nominal = np.arange(0, len(ids) - 2 * length, length)
    blank = (ids[:-1] == newline) & (ids[1:] == newline)
    paragraph = np.append(np.flatnonzero(blank) + 2, np.iinfo(np.int64).max)
    following = paragraph[np.searchsorted(paragraph, nominal)]
    return np.where(following - nominal < length // 2, following, nominal)


def batch(
    ids: np.ndarray, starts: np.ndarray, order: np.ndarray, position: int, n: int, length: int, bos: int
) -> torch.Tensor:
    """``n`` windows from ``position`` of the shuffled order on, a begin token before each, shape (n, length)."""
    chosen = starts[order[np.arange(position, position + n) % len(order)]]
    windows = ids[chosen[:, None] + np.arange(length - 1)]
    return torch.from_numpy(np.insert(windows.astype(np.int64), 0, bos, axis=1))


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained network of a recipe; the same seed gives the same weights."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocab_size,
            hidden_size=recipe.hidden_size,
            num_hidden_layers=recipe.n_layers,
            num_attention_heads=recipe.n_heads,
            num_key_value_heads=recipe.n_heads,
            intermediate_size=recipe.intermediate_size,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices inside the blocks, AdamW for embedding and norms, each with its base rate."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outside = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(inside, lr=recipe.muon_rate, weight_decay=recipe.weight_decay)
    adam = torch.optim.AdamW(outside, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [(muon, recipe.muon_rate), (adam, recipe.adam_rate)]


def write_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights as float16 (read back as float32) with configuration and tokenizer."""
    half = {name: p.detach().to(torch.float16).contiguous() for name, p in model.state_dict().items()}
    half.pop("lm_head.weight", None)  # tied to the embedding
    model.save_pretrained(folder, state_dict=half)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def loss_of(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token, in nats."""
    logits = model(input_ids=x, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())


def prepare(text_path: Path, run: Path, recipe: Recipe) -> tuple[PreTrainedTokenizerFast, np.ndarray]:
    """Tokenizer and token ids of the text, made once and kept in the run folder."""
    ids_path = run / "ids.npy"
    if ids_path.exists():
        return PreTrainedTokenizerFast.from_pretrained(run / "tokenizer"), np.load(ids_path, mmap_mode="r")
    text = read_text(text_path)
    tokenizer = train_tokenizer(text, recipe.vocab_size)
    tokenizer.model_max_length = recipe.context
    tokenizer.save_pretrained(run / "tokenizer")
    ids = tokenize(tokenizer, text)
    partial = run / "ids.partial.npy"
    np.save(partial, ids)
    partial.replace(ids_path)
    return tokenizer, ids


def check_same_run(run: Path, recipe: Recipe, text_path: Path) -> None:
    """Record the settings of a new run; refuse a folder that holds a run with others.

    Only the number of steps may change, and only while neither length has begun its decay: up to there the two
    recipes are the same run, since rate, windows and order depend on the step alone.
    """
    settings = {**asdict(recipe), "text": text_path.name, "text_bytes": text_path.stat().st_size}
    path = run / "recipe.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = [k for k, v in settings.items() if before.get(k) != v]
        if changed == ["steps"]:
            earlier = replace(recipe, steps=int(before["steps"]))
            done = steps_done(run)
            if max(r.window(done) for r in (recipe, earlier)) == recipe.context or done > recipe.steps:
                sys.exit(
                    f"{run} has done {done} steps; too late to change the length from {earlier.steps} "
                    f"to {recipe.steps} steps, since one of the two is decaying by then"
                )
        elif changed:
            told = "; ".join(f"{k}: {before.get(k)!r} there, {settings[k]!r} now" for k in changed)
            sys.exit(f"{run} holds a run with other settings ({told}); name another --run folder")
    path.write_text(json.dumps(settings, indent=2) + "\n")


def steps_done(run: Path) -> int:
    """Steps that the last saved state of a run has behind it."""
    state_path = run / "state.pt"
    return int(torch.load(state_path, weights_only=True)["step"]) if state_path.exists() else 0


def steps_with_progress(first: int, recipe: Recipe) -> Iterator[int]:
    """The steps that are left, with a bar on standard error."""
    yield from tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc="training", unit="step")


def train(text_path: Path, run: Path, recipe: Recipe, *, keep: set[int], save_every: int, compile_model: bool) -> Path:
    """Train to the end of the recipe, from the last saved state if there is one; return the final folder."""
    run.mkdir(parents=True, exist_ok=True)
    check_same_run(run, recipe, text_path)
    tokenizer, ids = prepare(text_path, run, recipe)
    split = int(len(ids) * (1 - DEV_SHARE))
    train_ids, dev_ids = ids[:split], ids[split:]
    newline = int(tokenizer.convert_tokens_to_ids("Ċ"))  # type: ignore[arg-type]
    bos = int(tokenizer.bos_token_id)

    model = new_model(recipe, tokenizer)
    schedule = optimizers(model, recipe)
    first = 0
    state_path = run / "state.pt"
    if state_path.exists():
        state: dict[str, Any] = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(schedule, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
        if (run / "log.jsonl").exists():  # lines after the saved state will be written again
            lines = (run / "log.jsonl").read_text().splitlines()
            kept = [line for line in lines if json.loads(line)["step"] < first]
            (run / "log.jsonl").write_text("".join(line + "\n" for line in kept))

    lengths = {recipe.window(s) for s in range(recipe.steps)}
    starts = {n: starts_of_windows(train_ids, n, newline) for n in lengths}
    rng = np.random.default_rng(recipe.seed)
    order = {n: rng.permutation(len(starts[n])) for n in sorted(lengths)}
    dev_starts = starts_of_windows(dev_ids, recipe.context, newline)[:64]
    dev = batch(dev_ids, dev_starts, np.arange(len(dev_starts)), 0, len(dev_starts), recipe.context, bos)
    run_loss = torch.compile(loss_of, dynamic=False) if compile_model else loss_of

    clock = time.perf_counter()
    with (run / "log.jsonl").open("a") as log:
        for step in steps_with_progress(first, recipe):
            if step in keep:
                write_model(model, tokenizer, run / "checkpoints" / f"step-{step:06d}")
            length = recipe.window(step)
            n = recipe.tokens_per_step // length
            x = batch(train_ids, starts[length], order[length], step * n, n, length, bos)
            factor = recipe.rate(step)
            loss = run_loss(model, x)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, rate in schedule:
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            row: dict[str, Any] = {
                "step": step,
                "loss": loss.item(),
                "gradient_norm": norm.item(),
                "rate": factor,
                "tokens": (step + 1) * recipe.tokens_per_step,
                "seconds": round(time.perf_counter() - clock, 1),
            }
            if not math.isfinite(row["loss"]):
                sys.exit(f"the loss is {row['loss']} at step {step}; the last good state is {state_path}")
            done = step + 1
            if done % save_every == 0 or done == recipe.steps:
                with torch.no_grad():
                    parts = torch.split(dev, 16)
                    row["dev_loss"] = sum(loss_of(model, part).item() for part in parts) / len(parts)
                partial = run / "state.partial.pt"
                torch.save(
                    {"step": done, "model": model.state_dict(), "optimizers": [o.state_dict() for o, _ in schedule]},
                    partial,
                )
                os.replace(partial, state_path)
            log.write(json.dumps(row) + "\n")
            log.flush()
    final = run / "checkpoints" / f"step-{recipe.steps:06d}"
    write_model(model, tokenizer, final)
    return final


def main(argv: list[str] | None = None) -> int:
    """Command line of the training script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text, plain or .xz")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; an interrupted run goes on")
    parser.add_argument(
        "--keep",
        type=int,
        nargs="*",
        default=[0, 32, 128, 512, 1024, 2048],
        help="steps whose weights are kept, besides the last",
    )
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--no-compile", action="store_true", help="run the network as it is, without a C++ compiler")
    for field in fields(Recipe):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    args = parser.parse_args(argv)
    if not args.text.is_file():
        parser.error(f"--text: {args.text} is not a file")
    recipe = Recipe(**{f.name: getattr(args, f.name) for f in fields(Recipe)})
    final = train(
        args.text, args.run, recipe, keep=set(args.keep), save_every=args.save_every, compile_model=not args.no_compile
    )
    digest = hashlib.sha256((final / "model.safetensors").read_bytes()).hexdigest()
    print(f"{final}  sha256 {digest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
