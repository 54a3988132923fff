"""Families told apart by profile: continuations from nothing, the mean profile of each, nearest neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _entropy_lens_profiles import begin, changed_by_text, encode, generated, held_out_loss
from _entropy_lens_scores import accuracy_score, auc_score, dummy, held_out, neighbors, one_out
from _entropy_lens_tables import Entry, Settings, Table, say
from scipy.spatial.distance import cdist

GRID = np.linspace(0.0, 1.0, 13)
"""Relative depths at which profiles of different depth are compared."""
NEIGHBORS = 15
TOKENS = 200
"""Most tokens of a text that the held-out loss is measured on."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """What was measured of one model."""

    entry: Entry
    depth: int
    loss: float
    """Nats per token on the held-out text; comparable between models of one tokenizer."""
    profiles: np.ndarray
    """(samples, L + 1) entropy in nats, mean over the tokens of a continuation."""
    changed: float
    """Share of the continuations whose tokens change when they are written as text and tokenized again."""

    def relative(self, *, embedding: bool = False) -> np.ndarray:
        """Profiles (samples, GRID) on relative depth: block 1 (or the embedding) at 0, the last block at 1."""
        rows = self.profiles if embedding else self.profiles[:, 1:]
        depth = np.linspace(0.0, 1.0, rows.shape[1])
        return np.stack([np.interp(GRID, depth, row) for row in rows])


def families(entries: Sequence[Entry], texts: Sequence[str], settings: Settings) -> list[Table]:
    """Who is told apart, what explains the profiles, and the profiles themselves."""
    sampled = [_sample(entry, texts, settings) for entry in entries]
    known = [s for s in sampled if s.entry.family is not None]
    counts = np.unique([str(s.entry.family) for s in known], return_counts=True)[1]
    tables = []
    if len(counts) >= 2 and counts.min() >= 2:
        tables += [_told_apart(known, settings), _explained(known, settings)]
    else:
        say("families: fewer than two families of two models each, so only the profiles are shown")
    return [*tables, _shapes(sampled, known)]


def _sample(entry: Entry, texts: Sequence[str], settings: Settings) -> Sampled:
    say(f"families: {entry.shown}")
    model = entry.load()
    prompts = [begin(model)] * settings.samples
    found, seen = generated(
        model, prompts, settings.sample_tokens, temperature=settings.temperature, seed=settings.seed
    )
    loss = held_out_loss(model, [encode(model, t)[:TOKENS] for t in texts])
    means = np.stack([e.mean(axis=1) for e in seen.entropy])
    return Sampled(entry, model.n_layers, loss, means, changed_by_text(model, prompts, found))


def _columns(known: Sequence[Sampled]) -> tuple[np.ndarray, np.ndarray]:
    """Family and model of each sample."""
    labels = np.repeat([str(s.entry.family) for s in known], [len(s.profiles) for s in known])
    return labels, np.repeat(np.arange(len(known)), [len(s.profiles) for s in known])


def _told_apart(known: Sequence[Sampled], settings: Settings) -> Table:
    labels, models = _columns(known)
    profile = np.concatenate([s.relative() for s in known])
    features = {
        "profile of the blocks": profile,
        "the same with the embedding": np.concatenate([s.relative(embedding=True) for s in known]),
        "shape: less the last block's entropy": profile - profile[:, -1:],
        "last block's entropy alone": profile[:, -1:],
        "held-out loss alone": np.concatenate([np.full((len(s.profiles), 1), s.loss) for s in known]),
        "dummy": profile,
    }
    table = Table(f"Families told apart: {len(set(labels))} families, {len(known)} models, {len(labels)} samples")
    for name, x in features.items():
        table.rows.append({"features": name, **_scored(x, labels, models, NEIGHBORS, settings, chance=name == "dummy")})
    whole = np.stack([s.relative().mean(axis=0) for s in known])
    families = np.array([str(s.entry.family) for s in known])
    table.rows.append({
        "features": "mean profile of the model, nearest model",
        **_scored(whole, families, np.arange(len(known)), 1, settings, chance=False),
    })
    table.notes.append(
        f"k = {NEIGHBORS}; each model is tested by what the other models show, so no seed and no depth of a family is "
        "on both sides. It meets one model of its own family less than of the others, so chance is below one in the "
        "number of families. Intervals: models drawn again inside their families. Random families: families dealt out "
        f"among the models {settings.resamples} times; p: how often they are told apart as well."
    )
    changed = float(np.mean([s.changed for s in known]))
    table.notes.append(
        f"In {changed:.1%} of the samples tokens change when the continuation is written out and tokenized again; the "
        "profiles here are of the tokens as sampled."
    )
    return table


def _scored(
    x: np.ndarray, labels: np.ndarray, models: np.ndarray, k: int, settings: Settings, *, chance: bool
) -> dict[str, Any]:
    """Each model tested by the others."""
    p = held_out(dummy(settings.seed) if chance else neighbors(k), x, labels, one_out(models))
    truth = np.unique(labels, return_inverse=True)[1][np.unique(models, return_index=True)[1]]
    votes = np.stack([p[models == m].mean(axis=0) for m in np.unique(models)])
    options: dict[str, Any] = {"times": settings.resamples, "seed": settings.seed, "strata": labels}
    row = {
        "right": accuracy_score(labels, p, models, **options), "AUC": auc_score(labels, p, models, **options),
        "models right": f"{int((votes.argmax(axis=1) == truth).sum())} of {len(truth)}",
    }
    if not chance:
        row["right with random families"], row["p"] = _dealt_again(x, models, truth, k, settings)
    return row


def _dealt_again(
    x: np.ndarray, models: np.ndarray, truth: np.ndarray, k: int, settings: Settings
) -> tuple[float, float]:
    """Samples right where families are dealt at random, on average, and how often as many as with the true ones."""
    apart = cdist(x, x)
    apart[models[:, None] == models[None]] = np.inf
    near = models[np.argsort(apart, axis=1, kind="stable")[:, :k]]
    size = int(truth.max()) + 1

    def right(family: np.ndarray) -> float:
        votes = np.stack([(family[near] == f).sum(axis=1) for f in range(size)], axis=1)
        top = votes == votes.max(axis=1, keepdims=True)
        return float((top[np.arange(len(x)), family[models]] / top.sum(axis=1)).mean())

    rng = np.random.default_rng(settings.seed)
    found = right(truth)
    drawn = np.array([found, *(right(rng.permutation(truth)) for _ in range(settings.resamples))])
    return float(drawn[1:].mean()), float((drawn >= found - 1e-12).mean())


def _explained(known: Sequence[Sampled], settings: Settings) -> Table:
    """Shares of the variance between models' mean profiles."""
    mean = np.stack([s.relative().mean(axis=0) for s in known])
    depth = np.array([[s.depth] for s in known], dtype=float)
    loss = np.array([[s.loss] for s in known])
    family = np.unique([str(s.entry.family) for s in known], return_inverse=True)[1]
    dummies = np.eye(int(family.max()) + 1)[family]
    rng = np.random.default_rng(settings.seed)
    rows = {"depth": depth, "held-out loss": loss, "depth and loss": np.hstack([depth, loss]), "family": dummies,
            "family, depth and loss": np.hstack([dummies, depth, loss])}
    table = Table("What explains the models' mean profiles (share of the variance between models, R²)")
    for name, x in rows.items():
        chance = np.mean([_share(rng.permutation(x), mean) for _ in range(max(1, settings.resamples))])
        table.rows.append({"explained by": name, "share": _share(x, mean), "the same, models shuffled": float(chance)})
    total = np.concatenate([s.relative() for s in known])
    within = np.concatenate([s.relative() - s.relative().mean(axis=0) for s in known])
    kept = 1 - (within**2).sum() / ((total - total.mean(axis=0)) ** 2).sum()
    table.notes.append(f"Of the variance of single samples, {kept:.1%} lies between models.")
    return table


def _share(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of the columns of y that is linear in x."""
    design = np.hstack([np.ones((len(x), 1)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - (rest**2).sum() / ((y - y.mean(axis=0)) ** 2).sum())


def _shapes(sampled: Sequence[Sampled], known: Sequence[Sampled]) -> Table:
    """Mean profile of each model at five relative depths, and the family its samples are nearest to."""
    table = Table("Mean profiles in nats by relative depth (0: after block 1, 1: after the last)")
    for s in sampled:
        at = np.interp([0.0, 0.25, 0.5, 0.75, 1.0], GRID, s.relative().mean(axis=0))
        others = [k for k in known if k is not s]
        row: dict[str, Any] = {
            "model": s.entry.shown, "family": s.entry.family or "", "blocks": s.depth, "loss": s.loss,
            "changed": s.changed, "embedding": float(s.profiles[:, 0].mean()),
            **{f"{d:g}": float(v) for d, v in zip((0, 0.25, 0.5, 0.75, 1), at, strict=True)},
        }
        if others:
            row["nearest family"] = _nearest(s, others)
        table.rows.append(row)
    table.notes.append(
        "Loss: nats per token on the held-out passages. Changed: share of samples whose tokens change when written out "
        "and tokenized again. Nearest family: most votes of nearest neighbors among the other models, and its share."
    )
    return table


def _nearest(s: Sampled, others: Sequence[Sampled]) -> str:
    labels, _ = _columns(others)
    model = neighbors(min(NEIGHBORS, len(labels)))().fit(np.concatenate([k.relative() for k in others]), labels)
    share = model.predict_proba(s.relative()).mean(axis=0)
    return f"{model.classes_[share.argmax()]} {share.max():.2f}"
