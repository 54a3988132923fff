"""Replacements of a word drawn from what a model with a head predicts in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo.errors import DomainError, ModelError
from infogeo_adapters.transformers.forward import Item, as_numpy
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.removal import Remover, Row, mask_token, tokens_of
from infogeo_adapters.transformers.stack import Stack, evaluating, run_model

MEMORY = 256e6
"""Bytes of logits at once."""


class Resampler(Remover):
    """Rows in which a word is replaced by tokens that the model predicts."""

    def __init__(self, model: LanguageModel, stack: Stack, samples: int, seed: int) -> None:
        if not model.has_head or model.kind == "encoder-decoder":
            found = "no head that predicts tokens" if not model.has_head else "a head on its decoder only"
            raise ModelError(
                f"{model.name} has {found}, so nothing can be drawn in the place of a word; take words away by 'hide', "
                "'mask', 'delete' or 'mean'"
            )
        self.model, self.samples, self.seed = model, samples, seed
        self.mask = mask_token(model) if model.kind == "encoder" else None
        vocabulary = model.tokenizer.get_vocab()
        self.allowed = np.setdiff1d(np.fromiter(vocabulary.values(), dtype=np.int64), model.tokenizer.all_special_ids)

    def rows(self, item: Item, word: int) -> list[Row]:
        places = np.flatnonzero(tokens_of(item, word))
        digest = hashlib.sha256(item.text.encode("utf-8", "surrogatepass")).digest()
        rng = np.random.default_rng([self.seed, word, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])
        once, again = _copies(item, places)
        rows = np.repeat(item.tokens.ids[None], self.samples, axis=0)
        if self.mask is None:
            self._draw_causal(rows, once, rng)
        else:
            self._draw_masked(rows, once, item.tokens.types, self.mask, places, rng)
        if len(again):
            rows[:, again] = rows[:, once]
        return [Row(word=word, ids=ids, types=item.tokens.types) for ids in rows]

    def _draw_masked(
        self, rows: IntArray, once: IntArray, types: IntArray, mask: int, places: IntArray, rng: np.random.Generator
    ) -> None:
        """Draw all tokens of the word in rows (samples, T), from one prediction of them."""
        ids = rows[0].copy()
        ids[places] = mask
        for place, p in zip(once, self._predicted([ids], once, types)[0], strict=True):
            rows[:, place] = rng.choice(self.allowed, size=self.samples, p=p)

    def _draw_causal(self, rows: IntArray, once: IntArray, rng: np.random.Generator) -> None:
        """Draw the tokens of the word in rows (samples, T), one after the other."""
        first = self.model.tokenizer.bos_token_id
        for place in once.tolist():
            before = rows[:, :place]
            if not place:
                if first is None:
                    raise ModelError(
                        f"{self.model.name} has no token for the beginning of a text, so it predicts nothing in the "
                        "place of a first word; take words away by 'hide', 'delete' or 'mean'"
                    )
                before = np.full((self.samples, 1), first, dtype=np.int64)
            distinct, which = np.unique(before, axis=0, return_inverse=True)
            ends = np.array([distinct.shape[1] - 1])
            types = np.zeros(distinct.shape[1], dtype=np.int64)
            probabilities = self._predicted(list(distinct), ends, types)[:, 0]
            rows[:, place] = [rng.choice(self.allowed, p=probabilities[k]) for k in which.reshape(-1)]

    def _predicted(self, texts: Sequence[IntArray], places: IntArray, types: IntArray) -> FloatArray:
        """(texts, places, allowed) probabilities of the tokens that may be drawn."""
        import torch

        net = self.model.model
        found = []
        with lock_of(net), evaluating(net):
            size = max(1, int(MEMORY // (4 * len(texts[0]) * (1 + self.allowed.max()))))
            for start in range(0, len(texts), size):
                ids = torch.from_numpy(np.stack(texts[start : start + size])).to(net.device)
                more: dict[str, Any] = {}
                if "token_type_ids" in self.model.tokenizer.model_input_names:
                    more["token_type_ids"] = torch.from_numpy(types).to(net.device).expand_as(ids)
                logits = run_model(net, ids, torch.ones_like(ids), **more).logits
                found.append(as_numpy(logits[:, torch.from_numpy(places).to(net.device)]))
        chosen: NDArray[Any] = np.concatenate(found)[..., self.allowed].astype(np.float64)
        best = chosen.max(axis=-1, keepdims=True)
        if not np.isfinite(best).all():
            raise DomainError(
                f"{self.model.name} predicts NaN or infinity, so nothing can be drawn; the weights or the number "
                "format are at fault, load it with dtype float32"
            )
        weights = np.exp(chosen - best)
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _copies(item: Item, places: IntArray) -> tuple[IntArray, IntArray]:
    """Places of a word at which tokens are drawn, and those in a second copy of the text at which they are repeated."""
    if item.read is None:
        return places, places[:0]
    second = item.read[places]
    if 2 * second.sum() != len(places):
        return places, places[:0]
    return places[~second], places[second]
