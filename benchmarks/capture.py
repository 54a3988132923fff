"""What a capture costs beside the forward pass it needs.

A batch of 32 sentences goes through the model three times: plain, with hidden states and attention asked for; the same
without its head, which makes no logits; and through ``capture_activations``, which makes none either, but also
tokenizes, aligns words, checks the numbers and hands out arrays. Attention is eager in all three. They take turns, so
that a change of the machine's speed meets all; medians are compared. The target is for the ratio to the plain pass ::

    python benchmarks/capture.py --models bundled minilm --runs 7
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from infogeo.errors import InfogeoError
from infogeo_adapters import LanguageModel, capture_activations, load_model
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.alignment import encode

TARGET = 1.3


def sentences(count: int) -> list[str]:
    """Sentences of 8 to 40 words from the background sample, in their order."""
    text = " ".join(background_text().split())
    cut = [s.strip() + "." for s in text.split(". ")]
    fit = [s for s in cut if 8 <= len(s.split()) <= 40]
    if len(fit) < count:
        raise SystemExit(f"the background sample has {len(fit)} sentences, {count} were asked for")
    return fit[:count]


def plain_pass(model: LanguageModel, texts: list[str], *, head: bool) -> Callable[[], Any]:
    """The model's own forward pass over the padded batch, tokenized beforehand; without its head from the base."""
    network = model.model if head else model.model.base_model
    rows = [encode(model.tokenizer, t).ids.tolist() for t in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])

    def run() -> Any:
        with torch.no_grad():
            return network(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)

    return run


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, *, count: int, runs: int) -> dict[str, Any]:
    """Medians of alternating runs for one model."""
    model = load_model(name)
    model.model.set_attn_implementation("eager")
    texts = sentences(count)
    plain, base = (plain_pass(model, texts, head=head) for head in (True, False))

    def capture() -> Any:
        return capture_activations(model, texts, batch_tokens=10**6)

    tokens = sum(len(a.tokens) for a in capture())
    if not plain().attentions or not base().attentions:
        raise SystemExit(f"{name} returns no attention in the plain pass")
    times = [(seconds(plain), seconds(base), seconds(capture)) for _ in range(runs)]
    whole, headless, captured = (statistics.median(t) for t in zip(*times, strict=True))
    return {
        "model": name, "sentences": count, "tokens": tokens, "runs": runs, "plain_s": round(whole, 4),
        "base_s": round(headless, 4), "capture_s": round(captured, 4), "ratio": round(captured / whole, 3),
        "ratio_without_logits": round(captured / headless, 3), "target": TARGET,
    }


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 1 if a ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["bundled", "minilm"], help="as load_model takes them")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--runs", type=int, default=7, help="alternating runs of each, at least 5 (default: 7)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="one JSON object per model and line")
    args = parser.parse_args(argv)
    if args.runs < 5:
        parser.error("--runs: a median of fewer than 5 runs says little")
    if args.threads:
        torch.set_num_threads(args.threads)
    worst = 0.0
    for name in args.models:
        try:
            row = measure(name, count=args.sentences, runs=args.runs)
        except InfogeoError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        worst = max(worst, row["ratio"])
        if args.json:
            print(json.dumps(row))
        else:
            print(
                f"{name}: plain {row['plain_s']:.3f} s, without logits {row['base_s']:.3f} s, "
                f"capture {row['capture_s']:.3f} s, ratio {row['ratio']:.2f} (target at most {TARGET}), "
                f"to the pass without logits {row['ratio_without_logits']:.2f}; "
                f"{row['tokens']} tokens in {row['sentences']} sentences"
            )
    return int(worst > TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
