"""Task and output format told apart by the profile of what a model writes after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from _entropy_lens_profiles import encode, generated
from _entropy_lens_scores import (
    Split,
    accuracy_score,
    auc_score,
    crossed_folds,
    dummy,
    grouped_folds,
    held_out,
    neighbors,
    plain_folds,
)
from _entropy_lens_tables import Entry, Settings, Table, say
from _entropy_lens_texts import ORDERS, Prompt, format_prompts, task_prompts

WORDINGS = (
    "Intervals: stories or topics drawn again. Each label has two wordings, so what others would give is not in them."
)


def tasks(entries: Sequence[Entry], stories: Sequence[str], settings: Settings) -> list[Table]:
    """One table for each model: the paper's folds, folds by story, folds by story and wording."""
    tables = []
    for number, entry in enumerate(entries):
        say(f"task: {entry.shown}")
        prompts = task_prompts(list(stories), seed=settings.seed)
        seen = _measured(entry, prompts, settings)
        table = Table(f"Task type, {entry.shown}: {len(stories)} stories, {len(prompts)} prompts, k = "
                      f"{settings.neighbors}")
        table.rows += _protocols(prompts, seen, settings, "story")
        folds = _splits(prompts, settings)["by"]
        table.rows += _by_order(prompts, seen["mean"], folds, settings)
        if number == 0:
            wrong = task_prompts(list(stories), seed=settings.seed, overwritten=True)
            features = _measured(entry, wrong, settings)
            table.rows += [
                _row(name, "story on both sides, base overwritten (published code)", wrong, features[name],
                     _splits(wrong, settings)["plain"], settings)
                for name in ("mean", "concatenated")
            ]
        table.notes.append(WORDINGS)
        tables.append(table)
    return tables


def _measured(entry: Entry, prompts: Sequence[Prompt], settings: Settings) -> dict[str, np.ndarray]:
    """Features of each prompt: mean and concatenated profile of the sampled tokens, and the last block alone."""
    model = entry.load()
    _, seen = generated(
        model, [encode(model, p.text) for p in prompts], settings.task_tokens, temperature=settings.temperature,
        seed=settings.seed,
    )
    blocks = np.stack(seen.entropy)[:, 1:]
    return {
        "mean": blocks.mean(axis=2), "concatenated": blocks.reshape(len(blocks), -1),
        "last block alone": blocks[:, -1:].mean(axis=2),
    }


def _splits(prompts: Sequence[Prompt], settings: Settings) -> dict[str, list[Split]]:
    labels, groups = np.array([p.label for p in prompts]), np.array([p.group for p in prompts])
    wordings = np.array([p.wording for p in prompts])
    return {
        "plain": plain_folds(labels, folds=settings.folds, seed=42),
        "by": grouped_folds(labels, groups, folds=settings.folds, seed=settings.seed),
        "crossed": crossed_folds(groups, wordings, folds=settings.folds, seed=settings.seed),
    }


def _row(
    features: str, protocol: str, prompts: Sequence[Prompt], x: np.ndarray, splits: list[Split], settings: Settings,
    *, k: int | None = None, chance: bool = False,
) -> dict[str, Any]:
    labels, groups = np.array([p.label for p in prompts]), np.array([p.group for p in prompts])
    p = held_out(dummy(settings.seed) if chance else neighbors(k or settings.neighbors), x, labels, splits)
    options: dict[str, Any] = {"times": settings.resamples, "seed": settings.seed}
    return {
        "features": features, "folds": protocol, "AUC": auc_score(labels, p, groups, **options),
        "accuracy": accuracy_score(labels, p, groups, **options),
    }


def _protocols(
    prompts: Sequence[Prompt], seen: dict[str, np.ndarray], settings: Settings, unit: str, *, k: int | None = None
) -> list[dict[str, Any]]:
    """Each kind of features under each kind of folds, and the dummy."""
    splits = _splits(prompts, settings)
    names = {
        "plain": f"{unit} on both sides (paper)", "by": f"by {unit}", "crossed": f"by {unit} and by wording",
    }
    rows = [
        _row(features, names[protocol], prompts, x, splits[protocol], settings, k=k)
        for features, x in seen.items() for protocol in names
    ]
    first = next(iter(seen.values()))
    return [*rows, _row("dummy", names["by"], prompts, first, splits["by"], settings, chance=True)]


def _by_order(
    prompts: Sequence[Prompt], x: np.ndarray, splits: list[Split], settings: Settings
) -> list[dict[str, Any]]:
    """The predictions of all prompts, scored on those of one order."""
    labels, groups = np.array([p.label for p in prompts]), np.array([p.group for p in prompts])
    p = held_out(neighbors(settings.neighbors), x, labels, splits)
    options: dict[str, Any] = {"times": settings.resamples, "seed": settings.seed}
    rows = []
    for order in ORDERS:
        of = np.array([q.order == order for q in prompts])
        rows.append({
            "features": "mean", "folds": f"by story, tested on {order}",
            "AUC": auc_score(labels[of], p[of], groups[of], **options),
            "accuracy": accuracy_score(labels[of], p[of], groups[of], **options),
        })
    return rows


def formats(entries: Sequence[Entry], settings: Settings) -> list[Table]:
    """For each model greedy and sampled continuations in windows: orders of entropy by k, and kinds of folds."""
    prompts = format_prompts(settings.topics)
    alphas, ks = (0.5, 1.0, 5.0), (3, 5, 7)
    tables = []
    for entry in entries:
        model = entry.load()
        for temperature in (None, settings.temperature):
            how = "the most probable token" if temperature is None else f"sampled at T = {temperature:g}"
            say(f"format: {entry.shown}, {how}")
            _, seen = generated(
                model, [encode(model, p.text) for p in prompts], settings.format_tokens, temperature=temperature,
                seed=settings.seed, renyi=(0.5, 5.0),
            )
            values = {**seen.renyi, 1.0: seen.entropy}
            by_alpha = {a: _windowed(values[a], settings.format_windows) for a in alphas}
            table = Table(f"Output format, {entry.shown}, {how}: {settings.topics} topics, {len(prompts)} prompts, "
                          f"{settings.format_tokens} tokens in {settings.format_windows} windows")
            folds = _splits(prompts, settings)["by"]
            table.rows += [
                _row(f"order {a:g}, k = {k}", "by topic", prompts, by_alpha[a], folds, settings, k=k)
                for a in alphas for k in ks
            ]
            blocks = by_alpha[1.0].shape[1] // settings.format_windows
            kinds = {"order 1, k = 5": by_alpha[1.0],
                     "last block alone, k = 5": by_alpha[1.0].reshape(len(prompts), blocks, -1)[:, -1]}
            table.rows += [r for r in _protocols(prompts, kinds, settings, "topic", k=5) if r not in table.rows]
            table.notes.append(WORDINGS)
            tables.append(table)
    return tables


def _windowed(profiles: Sequence[np.ndarray], windows: int) -> np.ndarray:
    """Blocks by windows of consecutive tokens, each window its mean: (prompts, blocks * windows)."""
    blocks = np.stack(profiles)[:, 1:]
    parts = np.array_split(np.arange(blocks.shape[2]), windows)
    return np.stack([blocks[:, :, part].mean(axis=2) for part in parts], axis=2).reshape(len(blocks), -1)
