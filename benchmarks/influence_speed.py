"""What taking every word away costs, beside the bare forward passes of the very same batches.

Sentences of the packaged background text (or of a CoNLL-U file) are read with each of their words hidden in turn, all
layers pooled to words, and measured against

bare passes       the model run on the same padded batches, nothing hidden, nothing kept
word effects      stream_word_effects: hiding, pooling of all layers, results text by text
influence         measure_influence with distribution='effects' at all layers, its background made before

Times are the best of --runs, taken in turn. The last line says what 2,000 sentences of 14 words would take at the
speed of the measured ones, by the number of tokens run::

    python benchmarks/influence_speed.py --model minilm --sentences 60 --threads 2

Exit status 1 if word effects take more than 1.25 times as long as the bare passes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from infogeo_adapters import load_model
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers import _removal_rows
from infogeo_adapters.transformers.influence import (
    background_sentences,
    effects_background,
    measure_influence,
    stream_word_effects,
)
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import evaluating, run_model, runner

TARGET = 1.25
WORDS, SENTENCES = 14, 2000


def texts_of(treebank: Path | None, count: int) -> list[str]:
    """Sentences of 5 to 30 words, spread over the packaged text, or the first of a file."""
    if treebank is None:
        return background_sentences(background_text(), count)
    lines = treebank.read_text(encoding="utf-8").splitlines()
    found = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    return [text for text in found if 5 <= len(text.split()) <= 30][:count]


def recorded_batches(model: LanguageModel, texts: list[str], batch_tokens: int) -> list[dict[str, Any]]:
    """The inputs of the passes that word effects make, noted while they are made once."""
    batches: list[dict[str, Any]] = []

    def noting(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        batches.append({"ids": ids, "mask": mask, **more})
        return run_model(part, ids, mask, **more)

    with mock.patch.object(_removal_rows, "run_model", noting):
        for _ in stream_word_effects(model, texts, batch_tokens=batch_tokens):
            pass
    return batches


def bare_passes(model: LanguageModel, batches: list[dict[str, Any]]) -> Callable[[], None]:
    """The same batches through the model alone."""
    part = runner(model.model)

    def run() -> None:
        with evaluating(model.model):
            for batch in batches:
                run_model(part, **batch)

    return run


def word_effects(model: LanguageModel, texts: list[str], batch_tokens: int) -> Callable[[], None]:
    """All effects, thrown away text by text."""

    def run() -> None:
        for _ in stream_word_effects(model, texts, batch_tokens=batch_tokens):
            pass

    return run


def influence(model: LanguageModel, texts: list[str], batch_tokens: int) -> Callable[[], None]:
    """Fisher-Rao distances at all layers."""
    background = effects_background(model)

    def run() -> None:
        measure_influence(
            model, texts, distribution="effects", background=background, batch_tokens=batch_tokens
        )

    return run


def main() -> int:
    """Measure and print; whether the target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--treebank", type=Path)
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_model(asked.model)
    texts = texts_of(asked.treebank, asked.sentences)
    batches = recorded_batches(model, texts, asked.batch_tokens)
    tasks = {
        "bare passes": bare_passes(model, batches),
        "word effects": word_effects(model, texts, asked.batch_tokens),
        "influence": influence(model, texts, asked.batch_tokens),
    }
    best = dict.fromkeys(tasks, np.inf)
    for _ in range(asked.runs):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            best[name] = min(best[name], time.perf_counter() - start)
    tokens = sum(int(batch["mask"].sum()) for batch in batches)
    run = sum(int(batch["mask"].numel()) for batch in batches)
    print(f"{asked.model}, {len(texts)} sentences, {asked.threads} threads: {len(batches)} batches, {tokens} tokens, "
          f"{run - tokens} of padding")
    for name, seconds in best.items():
        print(f"{name:<14} {seconds:8.2f} s  {seconds / best['bare passes']:6.2f}")
    wanted = SENTENCES * (WORDS + 1) * (WORDS * 1.25 + 2)
    print(f"{SENTENCES} sentences of {WORDS} words, {wanted / 1e3:.0f} thousand tokens: "
          f"{best['word effects'] / tokens * wanted / 60:.1f} minutes")
    return int(best["word effects"] > TARGET * best["bare passes"])


if __name__ == "__main__":
    sys.exit(main())
