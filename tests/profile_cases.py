"""Entropy profiles made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import EntropyProfile, Source


def make_profile(entropy: Any, tops: Any = None, **fields: Any) -> EntropyProfile:
    """A profile of one row for each layer, with the given entropies (R, T) and names of the best outcomes (R)(T)."""
    entropy = np.asarray(entropy)
    rows, tokens = np.shape(entropy)
    names = [["a"] * tokens] * rows if tops is None else tops
    known = sorted({name for row in names for name in row})
    defaults: dict[str, Any] = {
        "row_layers": np.arange(rows), "row_stages": ("embedding", *["resid_post"] * (rows - 1)), "entropy": entropy,
        "kl_to_final": np.zeros((rows, tokens)), "kl_to_next": np.full((rows, tokens), np.nan),
        "cross_entropy": np.full((rows, tokens), np.nan), "rank": np.zeros((rows, tokens), dtype=int),
        "step_length": np.vstack([np.full((1, tokens), np.nan), np.full((rows - 1, tokens), 0.5)]),
        "geodesic_length": np.full(tokens, 0.5),
        "top_ids": np.asarray([[[known.index(name)] for name in row] for row in names]),
        "top_probabilities": np.full((rows, tokens, 1), 0.5), "outcome_names": dict(enumerate(known)),
        "tokens": tuple("t" * (i + 1) for i in range(tokens)), "token_words": np.arange(tokens),
        "words": tuple(f"w{i}" for i in range(tokens)), "target_ids": np.full(tokens, -1), "predicts": "next",
        "n_outcomes": 10, "n_layers": rows - 1, "source": Source(model="by hand"),
    }
    return EntropyProfile(**{**defaults, **fields})
