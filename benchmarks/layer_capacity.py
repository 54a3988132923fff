"""Capacity of every block, part and head of a model on real text, at n, 2n and 4n tokens.

A number that belongs to the layer stays where it is when the sample is doubled. Each table shows the capacities at
three sample sizes with half the width of their 95 % interval, the rate and the utilization at the largest; at its end
the published recipe ``deb2025`` at growing sizes, which does not stay. The text is the sample that ships with infogeo,
or a file of yours; windows have 32 tokens. An asterisk marks a number that comes with a warning ::

    python benchmarks/layer_capacity.py --model bundled
    python benchmarks/layer_capacity.py --model minilm
    python benchmarks/layer_capacity.py --model minilm --heldout novel.txt --tokens 30000
    python benchmarks/layer_capacity.py --model bundled --sampling-unit

It prints Markdown; docs/layer_capacity.md keeps what it printed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infogeo import data_processing_check, deb2025_capacity, linear_gaussian_capacity
from infogeo.capacity.results import LayerCapacity
from infogeo.estimates import EstimateWarning
from infogeo_adapters import CapacityTable, LanguageModel, capture_channels, load_model, measure_capacity
from infogeo_adapters._capacity_views import STRETCHES, stretches_of
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.channels import capture_rows
from infogeo_adapters.transformers.token_rows import token_windows

PARTS = ("block", "attention", "feed_forward", "query", "key", "value")
ENTRIES = (250, 1000, 4000)
WINDOW = 32


def shown(found: LayerCapacity, *, digits: int = 1) -> str:
    """A capacity with half its interval; an asterisk where it was warned of."""
    interval = found.capacity_interval
    around = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.{digits}f}"
    return f"{found.capacity:.{digits}f}{around}{'*' if found.warnings else ''}"


def line(*cells: Any) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*names: str) -> None:
    """The first two rows of a Markdown table."""
    print()
    line(*names)
    line(*("---" for _ in names))


def by_part(tables: Sequence[CapacityTable], view: str, depth: int) -> None:
    """Blocks and parts against sample sizes."""
    sizes = [f"n = {t.n_tokens}" for t in tables]
    head("part", "block", *sizes, "rate", "utilization")
    for part in PARTS:
        for block in range(1, depth + 1):
            row = [t.select(view=view, part=part, block=block).items for t in tables]
            if all(row):
                found = [items[0].capacity for items in row]
                last = found[-1]
                line(part, block, *map(shown, found), f"{last.rate:.1f}", f"{last.utilization:.2f}")


def by_head(tables: Sequence[CapacityTable], depth: int) -> None:
    """Every head at the largest size, and how far the smaller sizes are from it."""
    largest = tables[-1].select(view="attention")
    heads = sorted({item.head for item in largest.items if item.head is not None})
    head("block", *(f"head {h}" for h in heads))
    for block in range(1, depth + 1):
        line(block, *(shown(item.capacity, digits=2) for item in largest.select(block=block).items))
    mask = largest.items[0].capacity.details.get("uniform_capacity")
    if mask is not None:
        print(f"\nThe head that looks at all visible keys alike has {mask:.2f} bits.")
    final = np.array([item.capacity.capacity for item in largest.items])
    for table in tables[:-1]:
        found = table.select(view="attention").items
        moved = np.abs(np.array([item.capacity.capacity for item in found]) - final)
        half = np.array([np.diff(item.capacity.capacity_interval or (0, 0))[0] / 2 for item in found])
        print(
            f"\nFrom {found[0].capacity.n} to {largest.items[0].capacity.n} windows the {len(found)} capacities move "
            f"by {moved.mean():.3f} bits on average and {moved.max():.3f} at most; {int((moved <= half).sum())} of "
            "them by less than half their interval at the smaller size."
        )


def verdict(tables: Sequence[CapacityTable], view: str) -> None:
    """How far the numbers at the smaller sizes are from those at the largest."""
    final = {(i.block, i.part): i.capacity for i in tables[-1].select(view=view).items}
    for table in tables[:-1]:
        moves, inside, doubted = [], 0, 0
        for item in table.select(view=view).items:
            last, c = final[item.block, item.part], item.capacity
            moves.append(c.capacity / last.capacity - 1)
            low, high = c.capacity_interval or (c.capacity, c.capacity)
            others = last.capacity_interval or (last.capacity, last.capacity)
            inside += low <= others[1] and others[0] <= high
            doubted += bool(c.warnings)
        print(
            f"\nAt n = {table.n_tokens} the median capacity differs by {100 * np.median(np.abs(moves)):.1f} % from "
            f"that at n = {tables[-1].n_tokens}, the farthest by {100 * max(moves, key=abs):+.1f} %; {inside} of "
            f"{len(moves)} intervals meet, {doubted} numbers come with a warning."
        )


def published_recipe(model: LanguageModel, text: str, depth: int) -> None:
    """The capacity of Deb and Ogunfunmi's recipe for growing numbers of entries, and ours of the same map."""
    pieces = [text[start : start + 400] for start in range(0, min(len(text), 12000), 400)]
    block = depth // 2
    samples = {s.part: s for s in capture_channels(model, pieces, parts=["feed_forward", "query"], blocks=[block])}
    head("deb2025", *(f"{n} entries" for n in ENTRIES), "bandwidths")
    for part in ("feed_forward", "query"):
        x, y = (a.reshape(-1)[: max(ENTRIES)].astype(float) for a in (samples[part].x, samples[part].y))
        found = [deb2025_capacity(x[:n], y[:n], unit="bits") for n in ENTRIES]
        line(f"{part}, block {block}", *(f"{c.capacity:.2f}" for c in found),
             ", ".join(f"{c.details['bandwidth']:.3g}" for c in found))
    x = samples["feed_forward"].x.reshape(-1)[: max(ENTRIES)].astype(float)
    found = [deb2025_capacity(x[:n], x[:n], unit="bits") for n in ENTRIES]
    line("the identity, y = x", *(f"{c.capacity:.2f}" for c in found),
         ", ".join(f"{c.details['bandwidth']:.3g}" for c in found))


def processing(model: LanguageModel, text: str, depth: int, tokens: int) -> None:
    """The rate through a feed-forward, and through fewer and fewer components of its output: it may not rise."""
    block = depth // 2
    pieces = [text[start : start + 400] for start in range(0, len(text), 400)]
    (sample,) = capture_channels(model, pieces, parts=["feed_forward"], blocks=[block])
    kept = slice(None, tokens)
    x, y = sample.x[kept].astype(float), sample.y[kept].astype(float)
    width = y.shape[1]
    chain = [linear_gaussian_capacity(x, y[:, :k], groups=sample.texts[kept], unit="bits")
             for k in (width, width // 2, width // 4)]
    check = data_processing_check(chain)
    values = ", ".join(f"{v:.1f}" for v in check.values)
    print(f"\nData processing, feed-forward of block {block}, rate to all, half and a quarter of its output: {values} "
          f"bits; {'obeyed' if check.obeyed else 'VIOLATED'}.")


def sampling_unit(model: LanguageModel, text: str, blocks: Sequence[int]) -> None:
    """Standard errors of rates over stretches of neighboring windows, and over windows dealt out at random."""
    rows = token_windows(model, [text], WINDOW)
    stretch, single = stretches_of(rows), np.random.default_rng(0).permutation(len(rows))
    ratios = []
    for block in blocks:
        for sample in capture_rows(model, rows, parts=PARTS[:3], blocks=[block]):
            errors = [
                linear_gaussian_capacity(
                    sample.x, sample.y, groups=groups[sample.texts], components=50, folds=STRETCHES
                ).details["rate_standard_error"]
                for groups in (stretch, single)
            ]
            ratios.append(errors[0] / errors[1])
    print(f"Standard errors of {len(ratios)} rates over {STRETCHES} stretches of windows are {np.median(ratios):.2f} "
          f"times those over single windows in the median, from {min(ratios):.2f} to {max(ratios):.2f}.")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled", help="as load_model takes it")
    parser.add_argument("--heldout", type=Path, help="a text in UTF-8 (default: the sample that ships with infogeo)")
    parser.add_argument("--tokens", type=int, help="4n; all tokens of the text by default")
    parser.add_argument("--components", type=int, help="leading principal components, for the linear-Gaussian view")
    parser.add_argument("--jacobian-tokens", type=int, default=32, help="at the largest size (default: 32)")
    parser.add_argument("--blocks", type=int, nargs="+", help="blocks, counted from 1 (default: all)")
    parser.add_argument("--sampling-unit", action="store_true", help="only compare two kinds of groups")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    model = load_model(args.model)
    text = background_text() if args.heldout is None else args.heldout.read_text(encoding="utf-8")
    if args.sampling_unit:
        sampling_unit(model, text, args.blocks or range(1, model.n_layers + 1))
        return 0
    total = sum(int((~row.special).sum()) for row in token_windows(model, [text], WINDOW))
    most = total if args.tokens is None else min(args.tokens, total)
    depth = model.n_layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)  # marked in the tables
        tables = []
        for part_of in (4, 2, 1):
            tables.append(measure_capacity(
                model, text, views=("linear_gaussian", "jacobian", "attention"), unit="bits", blocks=args.blocks,
                max_tokens=most // part_of, jacobian_tokens=max(2, args.jacobian_tokens // part_of),
                attention_windows=10**6, components=args.components, window=WINDOW,
            ))
        name = model.name if args.heldout is None else f"{model.name}, {args.heldout.name}"
        of = f"{args.components} leading components, " if args.components else ""
        print(f"### {name}: linear-Gaussian view ({of}bits per token)")
        by_part(tables, "linear_gaussian", depth)
        verdict(tables, "linear_gaussian")
        most_at = args.jacobian_tokens
        print(f"\n### {name}: Jacobian view at {most_at // 4}, {most_at // 2} and {most_at} tokens, noise 20 dB below "
              "the output (bits per token)")
        by_part(tables, "jacobian", depth)
        print(f"\n### {name}: attention heads (bits, at most {np.log2(WINDOW):g})")
        by_head(tables, depth)
        print(f"\n### {name}: the published recipe (bits)")
        published_recipe(model, text, depth)
        processing(model, text, depth, most)
    print(f"\n{time.perf_counter() - started:.0f} seconds.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
