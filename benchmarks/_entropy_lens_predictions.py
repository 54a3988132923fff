"""Experiments on running text: is the prediction right, entropies of other orders, sets that grow and shrink."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from _entropy_lens_profiles import activations, encode, profiles
from _entropy_lens_scores import (
    MacroAUC,
    Score,
    auc_score,
    dummy,
    grouped_folds,
    held_out,
    logistic,
    neighbors,
    with_interval,
)
from _entropy_lens_tables import Entry, Settings, Table, say
from scipy.stats import spearmanr

from infogeo import renyi_entropy
from infogeo_adapters import LanguageModel, logit_lens

ORDERS = (0.5, 1.0, 2.0, 5.0, float("inf"))
TOP_P = 0.6
TOKENS = 256
"""Most tokens of a passage."""


# Correctness


def correctness(entries: Sequence[Entry], texts: Sequence[str], settings: Settings) -> list[Table]:
    """Does the profile say, better than the last entropy, whether the first token of the next word will be right."""
    table = Table("Correctness: is the most probable token the first token of the next word (AUC, by passage)")
    for entry in entries:
        say(f"correctness: {entry.shown}")
        table.rows += _correct(entry, texts, settings)
    table.notes.append(
        "Differences are to the last block's entropy with the same classifier, on the same draws of passages. The "
        "dummy draws right and wrong with their frequencies. k-NN: "
        f"k = {settings.neighbors}, nats as they are; logistic regression: standardized."
    )
    return [table]


def _correct(entry: Entry, texts: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    model = entry.load()
    if model.kind != "decoder":
        return [{"model": entry.shown, "features": f"an {model.kind} predicts no next token"}]
    rows = [encode(model, t)[:TOKENS] for t in texts]
    places = _word_starts(model, rows, settings)
    rows, places = zip(*[(r, p) for r, p in zip(rows, places, strict=True) if len(p)], strict=True)
    seen = profiles(model, rows, places)
    right = np.concatenate([
        top[-1] == row[place + 1] for top, row, place in zip(seen.top_ids, rows, places, strict=True)
    ]).astype(int)
    groups = np.repeat(np.arange(len(rows)), [len(p) for p in places])
    blocks = np.concatenate([e[1:].T for e in seen.entropy])
    surest = np.concatenate([p[-1] for p in seen.top_probability])[:, None]
    head = {"model": entry.shown, "right": f"{right.mean():.1%} of {len(right)}"}
    if min(right.sum(), len(right) - right.sum()) < settings.folds:
        return [{**head, "features": "too few of one kind to score"}]
    splits = grouped_folds(right, groups, folds=settings.folds, seed=settings.seed)
    options: dict[str, Any] = {"times": settings.resamples, "seed": settings.seed}
    found = []
    for name, make in (("logistic", logistic), ("k-NN", neighbors(settings.neighbors))):
        p = {
            "last block's entropy": held_out(make, blocks[:, -1:], right, splits),
            "profile of the blocks": held_out(make, blocks, right, splits),
            "profile without the last block": held_out(make, blocks[:, :-1], right, splits),
            "last block's largest probability": held_out(make, surest, right, splits),
            "profile and largest probability": held_out(make, np.hstack([blocks, surest]), right, splits),
        }
        base = p["last block's entropy"]
        for features, q in p.items():
            found.append({
                **head, "features": features, "classifier": name, "AUC": auc_score(right, q, groups, **options),
                "less the last entropy": None if q is base else _difference(right, q, base, groups, settings),
            })
    q = held_out(dummy(settings.seed), blocks, right, splits)
    return [*found, {**head, "features": "dummy", "classifier": "", "AUC": auc_score(right, q, groups, **options)}]


def _word_starts(
    model: LanguageModel, rows: Sequence[np.ndarray], settings: Settings
) -> list[np.ndarray]:
    """Some places of each row whose next token begins a word, drawn with a seed."""
    table = model.tokenizer.convert_ids_to_tokens(list(range(len(model.tokenizer))))
    begins = np.array([str(t)[:1] in ("Ġ", "▁") and str(t)[1:2].isalpha() for t in table])
    if not begins.any():
        raise SystemExit(f"{model.name}: its tokens do not mark the beginnings of words; leave out correctness")
    rng = np.random.default_rng(settings.seed)
    found = []
    for row in rows:
        at = np.flatnonzero(begins[row[1:]])
        at = at[at >= 8]
        found.append(np.sort(rng.choice(at, min(len(at), settings.positions), replace=False)))
    return found


def _difference(
    labels: np.ndarray, p: np.ndarray, base: np.ndarray, groups: np.ndarray, settings: Settings
) -> Score:
    one, two = MacroAUC(labels, p), MacroAUC(labels, base)
    return with_interval(lambda r: one(r) - two(r), groups, times=settings.resamples, seed=settings.seed)


# Orders of entropy


def orders(entries: Sequence[Entry], texts: Sequence[str], settings: Settings) -> list[Table]:
    """Rényi entropies by layer on real states, and the published recipe beside ours on uniform laws."""
    tables = [_by_layer(entry, texts, settings) for entry in entries]
    return [*tables, _uniform(entries[0].load(), [4096, 256_000])]


def _by_layer(entry: Entry, texts: Sequence[str], settings: Settings) -> Table:
    say(f"orders: {entry.shown}")
    model = entry.load()
    rows = [encode(model, t)[:TOKENS] for t in texts]
    places = [np.arange(len(r)) for r in rows]
    asked = tuple(a for a in ORDERS if a != 1)
    seen = profiles(model, rows, places, renyi=asked)
    groups = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    by_order = {a: np.concatenate(seen.entropy if a == 1 else seen.renyi[a], axis=1) for a in ORDERS}
    table = Table(f"Rényi entropy by layer in nats, {entry.shown}: mean over {len(groups)} tokens")
    for layer in range(len(by_order[1.0])):
        row: dict[str, Any] = {"layer": layer}
        for a, values in by_order.items():
            row[f"order {a:g}"] = _mean(values[layer], groups, settings)
        table.rows.append(row)
    steps = np.stack([by_order[a] - by_order[b] for a, b in pairwise(ORDERS)])
    ranks = [spearmanr(by_order[1.0].ravel(), by_order[a].ravel()).statistic for a in asked]
    told = ", ".join(f"{rho:.3f} (order {a:g})" for a, rho in zip(asked, ranks, strict=True))
    table.notes.append(
        f"Entropy must not rise with the order: the smallest fall anywhere is {steps.min() + 0.0:.1e} nats. Rank "
        f"correlation with order 1 over all layers and tokens: {told}."
    )
    return table


def _mean(values: np.ndarray, groups: np.ndarray, settings: Settings) -> Score:
    return with_interval(lambda r: float(values[r].mean()), groups, times=settings.resamples, seed=settings.seed)


def published_recipe(p: np.ndarray, order: float, epsilon: float) -> float:
    """Rényi entropy in single precision with a small number added inside the logarithm."""
    p = p.astype(np.float32)
    if order == 1:
        return float(-(p * np.log(p + np.float32(epsilon))).sum())
    return float(np.log((p**np.float32(order)).sum() + np.float32(epsilon)) / (1 - order))


def _uniform(model: LanguageModel, sizes: Sequence[int]) -> Table:
    """The uniform law, whose entropy of any order is the logarithm of its outcomes."""
    import torch

    table = Table("Rényi entropy of the uniform law in nats: the truth is log V at each order")
    layers, width = model.n_layers + 1, model.model.config.get_text_config().hidden_size
    states = activations(model, np.array([2]), np.ones((layers, 1, width), dtype=np.float32))
    for size in sizes:
        flat = np.full(size, 1 / size)

        def level(x: torch.Tensor, size: int = size) -> torch.Tensor:
            return torch.zeros(len(x), size)

        lens = logit_lens(model, states, readout=level, renyi=tuple(a for a in ORDERS if a != 1))
        for a in ORDERS:
            ours = lens.entropy if a == 1 else lens.renyi[a]
            table.rows.append({
                "V": size, "order": f"{a:g}", "log V": float(np.log(size)), "logit_lens": float(ours[-1, 0]),
                "renyi_entropy": float(renyi_entropy(flat, alpha=a)),
                "with 1e-20 in the logarithm": published_recipe(flat, a, 1e-20) if np.isfinite(a) else None,
                "with 1e-15": published_recipe(flat, a, 1e-15) if np.isfinite(a) else None,
            })
    table.notes.append("1e-20 is added in the code of Entropy-Lens, 1e-15 bounds the sum in entropy-profiler.")
    return table


# Expansion and pruning


def expansion(entries: Sequence[Entry], texts: Sequence[str], settings: Settings) -> list[Table]:
    """Rank correlation between the change of entropy and the change of the top-p set from block to block."""
    table = Table(f"Expansion and pruning: Spearman of change of entropy and change of the top-p set (p = {TOP_P:g})")
    for entry in entries:
        say(f"expansion: {entry.shown}")
        model = entry.load()
        if model.n_layers < 2:
            table.rows.append({"model": entry.shown, "tokens": "one block, no step to score"})
            continue
        rows = [encode(model, t)[:TOKENS] for t in texts]
        seen = profiles(model, rows, [np.arange(1, len(r)) for r in rows], top_p=TOP_P)
        groups = np.repeat(np.arange(len(rows)), [len(r) - 1 for r in rows])
        h = np.concatenate(seen.entropy, axis=1)[1:]
        size = np.concatenate(seen.set_size, axis=1)[1:].astype(float)
        by_step = [spearmanr(np.diff(h, axis=0)[i], np.diff(size, axis=0)[i]).statistic for i in range(len(h) - 1)]
        table.rows.append({
            "model": entry.shown, "tokens": h.shape[1],
            "change of size": _rank(np.diff(h, axis=0), np.diff(size, axis=0), groups, settings),
            "change of log size": _spearman(np.diff(h, axis=0), np.diff(np.log(size), axis=0)),
            "by block, lowest to highest": f"{np.nanmin(by_step):.3f} to {np.nanmax(by_step):.3f}",
            "size itself": _spearman(h, size),
            "steps that expand": float((np.diff(h, axis=0) > 0).mean()),
        })
    table.notes.append("Over all tokens and all steps from one block to the next; intervals: passages drawn again. "
                       "\"Size itself\" is the correlation of entropy and size without any change.")
    return [table]


def _rank(x: np.ndarray, y: np.ndarray, groups: np.ndarray, settings: Settings) -> Score:
    """Spearman's correlation over layers and tokens, ranks made anew in each draw of passages."""
    return with_interval(lambda r: _spearman(x[:, r], y[:, r]), groups, times=settings.resamples, seed=settings.seed)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(spearmanr(x.ravel(), y.ravel()).statistic)
