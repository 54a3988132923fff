"""What a capture costs beside the forward pass it needs.

A batch of 32 sentences goes through the model three times: plain and eager, with hidden states and attention asked for;
the same without its head, which makes no logits; and through ``capture_activations``, which makes none either, but also
tokenizes, aligns words, checks the numbers and hands out arrays. They take turns, so that a change of the machine's
speed meets all; medians are compared. The target is for the ratio to the plain pass ::

    python benchmarks/capture.py --models bundled minilm --runs 7

With ``--reduction`` one text of 512 tokens (or the context) goes through three passes without a head: plain sdpa, which
gives no attention; the registered function, with the mean of the heads taken block by block; and eager, as transformers
gives the maps of all blocks, then the same means. Time, and the memory that a pass needs at its peak beyond what was in
use before. ``gpt2-shape`` is a random GPT-2 of width 768 with 12 blocks of 12 heads ::

    python benchmarks/capture.py --reduction --runs 7
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from infogeo.errors import InfogeoError
from infogeo_adapters import LanguageModel, capture_activations, load_model
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.alignment import encode
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.eager import attention_implementation
from infogeo_adapters.transformers.stack import evaluating, find_stack, run_model, runner

TARGET = 1.3
LENGTH = 512


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


# Attention reduced on the way


def reduction_model(name: str, tokens: int, device: str) -> tuple[Any, torch.Tensor]:
    """A network and one row of ids, as long as asked for or as its context."""
    if name == "gpt2-shape":
        from transformers import GPT2Config, GPT2Model

        torch.manual_seed(0)
        network: Any = GPT2Model(GPT2Config())
        ids = torch.randint(0, 50257, (1, tokens))
    else:
        model = load_model(name)
        network = model.model
        row = encode(model.tokenizer, " ".join(background_text().split()[: 2 * tokens])).ids
        ids = torch.from_numpy(row)[None, : min(tokens, model.context_length or tokens)]
    return network.to(device), ids.to(device)


def ways(network: Any, ids: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The three passes; two of them give the mean of the heads of each block."""
    stack = find_stack(network)
    part, mask = runner(network, stack.side), torch.ones_like(ids)

    def plain() -> Any:
        with evaluating(network):
            return run_model(part, ids, mask)

    def registered() -> list[torch.Tensor]:
        with evaluating(network), recorded_attention(network, stack, reduce=lambda kind, maps: maps.mean(1)) as record:
            output = run_model(part, ids, mask)
            return [mean for _, mean in record.finish(output)]

    def eager() -> list[torch.Tensor]:
        with evaluating(network), attention_implementation(network, "eager"):
            return [m.mean(1) for m in run_model(part, ids, mask, output_attentions=True).attentions]

    return {"sdpa": plain, "registered": registered, "eager": eager}


def peak_bytes(run: Callable[[], Any], device: str) -> int | None:
    """What a call needs at its peak beyond what was in use before; None where the system does not tell."""
    gc.collect()
    if device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    with returning_memory():
        reset.write_text("5")  # the high-water mark falls to what is in use
        before = _kibibytes(status, "VmRSS")
        run()
        return 1024 * (_kibibytes(status, "VmHWM") - before)


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """The allocator of glibc gives each block of a megabyte or more back as soon as it is free; elsewhere nothing."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        threshold, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    trim(0)
    threshold(-3, 1 << 20)  # M_MMAP_THRESHOLD
    try:
        yield
    finally:
        threshold(-3, 32 << 20)


def _kibibytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


def timed(run: Callable[[], Any], device: str) -> float:
    """Wall time of one call, until the device is done."""

    def finished() -> None:
        run()
        if device != "cpu":
            torch.cuda.synchronize()

    return seconds(finished)


def measure_reduction(name: str, *, tokens: int, runs: int, device: str) -> dict[str, Any]:
    """Medians of alternating passes, and the median peak of three."""
    network, ids = reduction_model(name, tokens, device)
    passes = ways(network, ids)
    means, wanted = passes["registered"](), passes["eager"]()
    difference = max(float((a - b).abs().max()) for a, b in zip(means, wanted, strict=True))
    del means, wanted
    if difference > 1e-4:
        raise SystemExit(f"{name}: the reduced attention differs from that of eager by {difference:.2g}")
    times: dict[str, list[float]] = {way: [] for way in passes}
    for _ in range(runs):
        for way, run in passes.items():
            times[way].append(timed(run, device))
    row: dict[str, Any] = {"model": name, "tokens": ids.shape[1], "runs": runs, "device": device}
    for way, run in passes.items():
        peaks = [peak_bytes(run, device) for _ in range(3)]
        row[f"{way}_s"] = round(statistics.median(times[way]), 4)
        row[f"{way}_mb"] = None if peaks[0] is None else round(statistics.median(p or 0 for p in peaks) / 1e6, 1)
    return row | {
        "ratio_to_sdpa": round(row["registered_s"] / row["sdpa_s"], 2),
        "ratio_to_eager": round(row["registered_s"] / row["eager_s"], 2), "difference": difference,
    }


def print_reduction(row: dict[str, Any]) -> None:
    """One line a way."""
    print(f"{row['model']}: {row['tokens']} tokens on {row['device']}, head means differ by {row['difference']:.1e}")
    for way in ("sdpa", "registered", "eager"):
        memory = "unknown" if row[f"{way}_mb"] is None else f"{row[f'{way}_mb']:8.1f} MB"
        print(f"  {way:<11} {row[f'{way}_s']:8.4f} s   peak {memory}")


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 1 if a ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="as load_model takes them, or gpt2-shape with --reduction")
    parser.add_argument("--reduction", action="store_true", help="measure attention that is reduced on the way instead")
    parser.add_argument("--tokens", type=int, default=LENGTH, help=f"with --reduction (default: {LENGTH})")
    parser.add_argument("--device", default="cpu", help="with --reduction (default: cpu)")
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--runs", type=int, default=7, help="alternating runs of each, at least 5 (default: 7)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="one JSON object per model and line")
    args = parser.parse_args(argv)
    if args.runs < 5:
        parser.error("--runs: a median of fewer than 5 runs says little")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.reduction:
        for name in args.models or ["bundled", "minilm", "gpt2-shape"]:
            row = measure_reduction(name, tokens=args.tokens, runs=args.runs, device=args.device)
            print(json.dumps(row)) if args.json else print_reduction(row)
        return 0
    worst = 0.0
    for name in args.models or ["bundled", "minilm"]:
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
