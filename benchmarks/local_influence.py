"""Time of the influence of small moves beside taking words away, and how it grows with words and probes.

For each model and each length, sentences of so many words are cut from the packaged text; of each way the best of
--runs is shown, in milliseconds a sentence, and its ratio to n + 1 bare passes, which taking each word away in turn
needs at least::

    python benchmarks/local_influence.py --runs 3 --sentences 4 --words 8 16 32 --probes 4 8

passes            n + 1 passes of the sentence
words hidden      measure_influence(removal="hide", distribution="states"), all layers
embedding         local_influence(direction="embedding"): one direction for each word, all layers
embedding, 2 to 3 the same moved at layer 2 and read at layer 3
K probes          local_influence(direction="isotropic", probes=K), all layers
K probes, 2 to 4  the same moved at layer 2 and read at layer 4
read-out          local_influence(direction="embedding", distribution="readout"), last layer; of models with a head

One thread is used. Exit status 1 if one direction for each word takes more than twelve times the passes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from infogeo_adapters import capture_activations, capture_background, load_model, local_influence, measure_influence
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.loading import LanguageModel

SLOWER = 12.0


def sentences(words: int, count: int) -> list[str]:
    """Consecutive pieces of the packaged text, of so many words each."""
    every = background_text().split()
    return [" ".join(every[k * words : (k + 1) * words]) for k in range(count)]


def ways(model: LanguageModel, texts: list[str], probes: list[int]) -> dict[str, Callable[[], object]]:
    """What is timed, by name; each does all the texts."""
    background = capture_background(model, texts)
    known: dict[str, Any] = {"background": background, "distribution": "states"}
    counts = [len(capture_activations(model, text, attention=False).words) for text in texts]
    copies = [text for text, n in zip(texts, counts, strict=True) for _ in range(n + 1)]
    found: dict[str, Callable[[], object]] = {
        "passes": lambda: capture_activations(model, copies, attention=False),
        "words hidden": lambda: measure_influence(model, texts, removal="hide", **known),
        "embedding": lambda: local_influence(model, texts, direction="embedding", **known),
        "embedding, 2 to 3": lambda: local_influence(model, texts, direction="embedding", at=2, layers=3, **known),
    }
    for k in probes:
        found[f"{k} probes"] = partial(local_influence, model, texts, probes=k, **known)
        found[f"{k} probes, 2 to 4"] = partial(local_influence, model, texts, probes=k, at=2, layers=4, **known)
    if model.has_head:
        found["read-out"] = lambda: local_influence(
            model, texts, direction="embedding", layers=-1, distribution="readout"
        )
    return found


def best(run: Callable[[], object], runs: int) -> float:
    """Shortest time in seconds, after one run that is not counted."""
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["minilm", "bundled"])
    parser.add_argument("--words", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--probes", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--sentences", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    missed = False
    for name in chosen.models:
        model = load_model() if name == "bundled" else load_model(name)
        for n in chosen.words:
            print(f"{name}, {n} words, {chosen.sentences} sentences")
            base = 0.0
            for way, run in ways(model, sentences(n, chosen.sentences), chosen.probes).items():
                seconds = best(run, chosen.runs) / chosen.sentences
                base = base or seconds
                print(f"  {way:20} {1e3 * seconds:9.1f} ms {seconds / base:7.1f}")
                missed |= way == "embedding" and seconds > SLOWER * base
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
