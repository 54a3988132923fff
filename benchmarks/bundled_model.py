r"""Is the bundled model truly trained? Bits per byte on held-out text, next to compressors and a Kneser-Ney 4-gram.

    python benchmarks/bundled_model.py children-heldout.txt prose-heldout.txt --train-text children-train.txt.xz \
        --twin --continue "Once upon a time" --markdown

Held-out texts and the training text are files of the user. Tokens of the training text that the training script left
in its run folder (``--ids runs/bundled/ids.npy``) save tokenising again. All settings have defaults; no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infogeo.errors import FormatError, InfogeoError, TextError
from infogeo_adapters.models import bundled_path, bundled_recipe
from infogeo_adapters.models.evaluate import (
    compressed_bits_per_byte,
    continuation,
    layer_profile,
    score_text,
    untrained_twin,
)
from infogeo_adapters.models.install import DEV_SHARE
from infogeo_adapters.models.kneser_ney import KneserNey


def read(path: Path) -> tuple[bytes, str]:
    """Bytes and text of a UTF-8 file, line ends as they are."""
    data = path.read_bytes()
    try:
        return data, data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 ({error}); convert it first") from error


def load(folder: Path, tokenizer: Path | None) -> tuple[Any, Any]:
    """Model in float32 and tokenizer of a folder; the bundled tokenizer where the folder has none."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    at = tokenizer or (folder if (folder / "tokenizer.json").is_file() else bundled_path())
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype="float32")
    return model, AutoTokenizer.from_pretrained(at, local_files_only=True)


def training_ids(args: argparse.Namespace, tokenizer: Any) -> np.ndarray | None:
    """Token ids of the training text without its development share; None if no training text was given."""
    ids: np.ndarray
    if args.ids is not None:
        ids = np.load(args.ids, mmap_mode="r")
    elif args.train_text is not None:
        from infogeo_adapters.models.train import read_text, tokenize

        ids = tokenize(tokenizer, read_text(args.train_text))
    else:
        return None
    return ids[: int(len(ids) * (1 - args.dev_share))]


def say(message: str) -> None:
    """Progress on standard error."""
    print(message, file=sys.stderr, flush=True)


def baselines(args: argparse.Namespace, tokenizer: Any, texts: dict[str, tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Rows of the table that need no neural network."""
    packed = {name: compressed_bits_per_byte(data) for name, (data, _) in texts.items()}
    rows = [{"method": m, "bits_per_byte": {n: p[m] for n, p in packed.items()}} for m in ("bzip2 -9", "xz -9e")]
    ids = training_ids(args, tokenizer)
    if ids is None:
        return rows
    encoded = {n: tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"] for n, (_, t) in texts.items()}
    for count in [*args.train_tokens, len(ids)]:
        clock = time.perf_counter()
        kn = KneserNey(ids[:count], vocab_size=len(tokenizer), order=args.order, begin=tokenizer.bos_token_id)
        row: dict[str, Any] = {
            "method": f"Kneser-Ney {args.order}-gram, {min(count, len(ids)):,} tokens",
            "bits_per_byte": {},
            "nats_per_token": {},
            "n_grams": kn.sizes,
            "discounts": kn.discounts,
            "discounts_estimated": kn.estimated,
        }
        for name, (data, _) in texts.items():
            nats = -float(kn.log_probs(encoded[name]).sum())
            row["bits_per_byte"][name] = nats / math.log(2) / len(data)
            row["nats_per_token"][name] = nats / len(encoded[name])
        row["seconds"] = round(time.perf_counter() - clock, 1)
        say(f"{row['method']}: {row['seconds']} s")
        rows.append(row)
    return rows


def model_rows(
    args: argparse.Namespace, name: str, model: Any, tokenizer: Any, texts: dict[str, tuple[bytes, str]], *, plain: bool
) -> list[dict[str, Any]]:
    """Rows of one model: overlapping windows, and windows that do not overlap."""
    context = args.context or int(model.config.max_position_embeddings)
    strides = {} if args.plain_only else {"half a context or more before each token": context // 2}
    if plain or args.plain_only:
        strides["windows that do not overlap"] = context - 1
    rows = []
    for how, stride in strides.items():
        clock = time.perf_counter()
        row: dict[str, Any] = {"method": f"{name}, {how}", "bits_per_byte": {}, "nats_per_token": {}}
        for text_name, (_, text) in texts.items():
            score = score_text(model, tokenizer, text, context=context, stride=stride, batch=args.batch, progress=True)
            row["bits_per_byte"][text_name] = score.bits_per_byte
            row["nats_per_token"][text_name] = score.nats_per_token
        row["seconds"] = round(time.perf_counter() - clock, 1)
        rows.append(row)
    return rows


def profiles(models: dict[str, Any], tokenizer: Any, text: str) -> dict[str, Any]:
    """Attention entropy by head and change by block of each model on the beginning of a text."""
    found = {name: layer_profile(model, tokenizer, text) for name, model in models.items()}
    return {
        name: {
            "attention_entropy": p.attention_entropy.round(4).tolist(),
            "layer_change": p.layer_change.round(4).tolist(),
        }
        for name, p in found.items()
    }


def table(rows: Sequence[dict[str, Any]], names: Sequence[str], *, markdown: bool) -> str:
    """Bits per byte, one line for each method and one column for each text."""
    lines = [["bits per byte", *names]]
    lines += [[row["method"], *(f"{row['bits_per_byte'][n]:.3f}" for n in names)] for row in rows]
    if markdown:
        lines.insert(1, ["---"] + ["---:"] * len(names))
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in lines) for i in range(len(names) + 1)]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def profile_table(found: dict[str, Any], *, markdown: bool) -> str:
    """Range of the head entropies and the change, one line for each block and model."""
    lines = [["block", "model", "attention entropy by head (share of the largest possible)", "change"]]
    names = list(found)
    for block in range(len(found[names[0]]["layer_change"])):
        for name in names:
            heads = " ".join(f"{e:.2f}" for e in found[name]["attention_entropy"][block])
            lines.append([str(block + 1), name, heads, f"{found[name]['layer_change'][block]:.2f}"])
    if markdown:
        lines.insert(1, ["---:", "---", "---", "---:"])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def report(result: dict[str, Any], *, markdown: bool) -> str:
    """Everything that was measured, to be read: tables, continuations, and what they are measured on."""
    parts = [table(result["rows"], list(result["texts"]), markdown=markdown)]
    if "profiles" in result:
        parts.append(profile_table(result["profiles"], markdown=markdown))
    for found in result.get("continuations", []):
        parts += [f"{how}: {' '.join(text.split())}" for how, text in found.items()]
    for name, about in result["texts"].items():
        parts.append(f"{name}: {about['bytes']:,} bytes, {about['tokens']:,} tokens.")
    for name, about in result["models"].items():
        step = f"step {about['step']:,}, " if "step" in about else ""
        parts.append(f"{name}: {step}windows of {about['context']} tokens, SHA-256 of the weights {about['sha256']}.")
    return "\n\n".join(parts)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("texts", type=Path, nargs="+", help="held-out UTF-8 files")
    p.add_argument("--model", type=Path, nargs="*", help="model folders (default: the bundled model)")
    p.add_argument("--tokenizer", type=Path, help="tokenizer folder (default: the model's own, else the bundled one)")
    p.add_argument("--train-text", type=Path, help="training text of the 4-gram, plain or .xz")
    p.add_argument("--ids", type=Path, help="tokens of the training text, .npy, instead of --train-text")
    p.add_argument("--dev-share", type=float, default=DEV_SHARE, help="share at the end that is not training text")
    p.add_argument("--train-tokens", type=int, nargs="*", default=[], help="also a 4-gram of the first N tokens")
    p.add_argument("--order", type=int, default=4, help="order of the Kneser-Ney model")
    p.add_argument("--twin", action="store_true", help="compare with an untrained twin of the last model")
    p.add_argument("--continue", dest="prompts", action="append", default=[], metavar="TEXT", help="continue a text")
    p.add_argument("--context", type=int, help="tokens of a window (default: the longest input of the model)")
    p.add_argument("--plain-only", action="store_true", help="only windows that do not overlap: half the time")
    p.add_argument("--batch", type=int, default=8, help="windows per forward pass")
    p.add_argument("--threads", type=int, help="threads of torch")
    p.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    p.add_argument("--card", type=Path, help="also put the tables into this page, between its 'measured' marks")
    p.add_argument("--json", type=Path, help="also write everything to this file")
    return p


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables, write what was asked for; 2 if a file cannot be used."""
    args = parser().parse_args(argv)
    try:
        run(args)
    except (InfogeoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace) -> None:
    """Everything the command line asks for."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    texts = {path.name: read(path) for path in args.texts}
    folders = [bundled_path()] if args.model is None else args.model
    loaded = {folder.name: load(folder, args.tokenizer) for folder in folders}
    tokenizer = next(iter(loaded.values()))[1] if loaded else load(bundled_path(), args.tokenizer)[1]
    result: dict[str, Any] = {
        "texts": {
            name: {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "tokens": len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]),
            }
            for name, (data, text) in texts.items()
        },
        "models": {
            folder.name: {
                "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
                "context": args.context or loaded[folder.name][0].config.max_position_embeddings,
            }
            | ({"step": bundled_recipe()["bundled_step"]} if folder == bundled_path() else {})
            for folder in folders
        },
        "rows": baselines(args, tokenizer, texts),
    }
    for name, (model, own) in loaded.items():
        result["rows"] += model_rows(args, name, model, own, texts, plain=True)
    if args.twin and loaded:
        name, (model, own) = list(loaded.items())[-1]
        twin = untrained_twin(model)
        plain = argparse.Namespace(**{**vars(args), "plain_only": True})
        result["rows"] += model_rows(plain, "untrained twin", twin, own, texts, plain=True)
        first = next(iter(texts.values()))[1]
        result["profiles"] = profiles({name: model, "untrained twin": twin}, own, first)
    if args.prompts and loaded:
        name, (model, own) = list(loaded.items())[-1]
        result["continuations"] = [
            {"greedy": continuation(model, own, prompt), "sampled": continuation(model, own, prompt, temperature=0.8)}
            for prompt in args.prompts
        ]
    print(report(result, markdown=args.markdown))
    if args.card is not None:
        page = args.card.read_text(encoding="utf-8")
        block = f"<!-- measured -->\n{report(result, markdown=True)}\n<!-- /measured -->"
        page, count = re.subn(r"<!-- measured -->.*<!-- /measured -->", lambda _: block, page, flags=re.DOTALL)
        if count != 1:
            raise FormatError(f"{args.card} has no block between <!-- measured --> and <!-- /measured --> to replace")
        args.card.write_text(page, encoding="utf-8")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
