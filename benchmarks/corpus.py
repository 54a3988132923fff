"""What a corpus on disk costs beside the forward pass it needs, in time and in memory.

Sentences of the packaged background text, numbered so that no two are alike, go through the model three times: as the
bare forward pass without the head over the batches that ``capture_corpus`` makes, tokenized and padded beforehand;
through ``capture_corpus``, all layers, which reads and tokenizes them, aligns words and writes, syncs and hashes
shards; and through ``capture_corpus`` again, which finds all done. The first two take turns, so that a change of the
machine's speed meets both; medians are compared. Peak memory is the largest resident set of the process during one run,
model and libraries included (Linux only). For it the capture is also run on four times the texts: the peak must not
grow with them ::

    python benchmarks/corpus.py --models bundled minilm
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from infogeo.errors import InfogeoError
from infogeo_adapters import LanguageModel, capture_corpus, load_model
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.forward import batches_of, prepare
from infogeo_adapters.transformers.stack import find_stack, runner


def sentences(count: int) -> Iterator[str]:
    """Sentences of 8 to 40 words, each with a number, made when they are asked for."""
    cut = [s.strip() for s in " ".join(background_text().split()).split(". ")]
    fit = [s for s in cut if 8 <= len(s.split()) <= 40]
    return (f"{fit[i % len(fit)]}, {i}." for i in range(count))


def bare_pass(
    model: LanguageModel, count: int, *, batch_tokens: int, shard_tokens: int
) -> tuple[int, Callable[[], None]]:
    """Number of tokens, and the model without its head over the same batches, made beforehand."""
    windows: list[list[list[int]]] = [[]]
    for text in sentences(count):
        if sum(map(len, windows[-1])) >= shard_tokens:
            windows.append([])
        windows[-1].append(prepare(model, text, None, "error").tokens.ids.tolist())
    batches = []
    for rows in windows:
        for batch in batches_of([len(r) for r in rows], batch_tokens, exact=find_stack(model.model).pads_exactly):
            longest = max(len(rows[i]) for i in batch)
            ids = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in batch])
            mask = torch.tensor([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in batch])
            batches.append((ids, mask))
    part = runner(model.model)

    def run() -> None:
        with torch.no_grad():
            for ids, mask in batches:
                part(input_ids=ids, attention_mask=mask)

    return sum(len(r) for rows in windows for r in rows), run


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mb(run: Callable[[], Any]) -> float | None:
    """Largest resident set in megabytes during a call; None where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    reset.write_text("5")  # the largest so far is forgotten
    run()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1000, 1)


def measure(name: str, *, count: int, runs: int, batch_tokens: int, shard_tokens: int) -> dict[str, Any]:
    """Medians of alternating runs for one model, then one run of each for the memory."""
    model = load_model(name)
    options = {"batch_tokens": batch_tokens, "shard_tokens": shard_tokens}
    tokens, bare = bare_pass(model, count, **options)
    with tempfile.TemporaryDirectory() as top:
        number = 0

        def capture(texts: int = count, *, again: bool = False) -> None:
            nonlocal number
            number += not again
            capture_corpus(model, sentences(texts), Path(top) / str(number), **options)

        times = [(seconds(bare), seconds(capture)) for _ in range(runs)]
        resumed = statistics.median(seconds(lambda: capture(again=True)) for _ in range(runs))
        size = sum(p.stat().st_size for p in (Path(top) / str(number)).iterdir())
        peaks = [peak_mb(bare), peak_mb(capture), peak_mb(lambda: capture(4 * count))]
    plain, captured = (statistics.median(t) for t in zip(*times, strict=True))
    return {
        "model": name, "texts": count, "tokens": tokens, "runs": runs, **options, "bare_s": round(plain, 3),
        "capture_s": round(captured, 3), "ratio": round(captured / plain, 3),
        "tokens_per_s": round(tokens / captured), "bare_tokens_per_s": round(tokens / plain),
        "resume_s": round(resumed, 3), "size_mb": round(size / 1e6, 1), "bare_peak_mb": peaks[0],
        "capture_peak_mb": peaks[1], "capture_peak_4x_mb": peaks[2],
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["bundled", "minilm"], help="as load_model takes them")
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of each (default: 3)")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--shard-tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--json", action="store_true", help="one JSON object per model and line")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    for name in args.models:
        try:
            row = measure(
                name, count=args.texts, runs=args.runs, batch_tokens=args.batch_tokens, shard_tokens=args.shard_tokens
            )
        except InfogeoError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        if args.json:
            print(json.dumps(row))
            continue
        print(
            f"{name}: {row['tokens']} tokens in {row['texts']} texts; bare pass {row['bare_s']} s, capture "
            f"{row['capture_s']} s ({row['tokens_per_s']} tokens/s), ratio {row['ratio']:.2f}; resuming when all is "
            f"done {row['resume_s']} s; {row['size_mb']} MB on the disk; peak memory of the process: bare pass "
            f"{row['bare_peak_mb']} MB, capture {row['capture_peak_mb']} MB, of four times the texts "
            f"{row['capture_peak_4x_mb']} MB"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
