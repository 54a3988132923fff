"""The embedding of marked tokens replaced by a mean while a model runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import ModelError, TextError
from infogeo_adapters.transformers.alignment import check_text, encode
from infogeo_adapters.transformers.forward import Item
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.removal import Mark, Remover, Row, tokens_of
from infogeo_adapters.transformers.stack import Stack, embedding_rows, evaluating, of_this_thread, runner

if TYPE_CHECKING:
    import torch

CHUNK = 8192
"""Token embeddings that are looked up at once."""


class EmbeddingAverager(Remover):
    """Tokens of a word with the mean embedding, at their own positions.

    The mean is of what the model's table of embeddings gives out, scaled where it scales.
    """

    def __init__(self, model: LanguageModel, stack: Stack, background: str | None) -> None:
        self.model, self.stack = model, stack
        embedding_rows(model.model)
        self.table: Any = runner(model.model, stack.side).get_input_embeddings()
        self.mean = self._mean(background)

    def rows(self, item: Item, word: int) -> list[Row]:
        return [Row(word=word, ids=item.tokens.ids, types=item.tokens.types, marked=tokens_of(item, word))]

    @contextlib.contextmanager
    def acting(self) -> Iterator[Mark]:
        import torch

        current: list[torch.Tensor | None] = [None]

        def mark(marked: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
            current[0] = None if marked is None else marked.T if self.stack.time_major else marked
            return mask

        def replace(module: Any, args: Any, output: Any) -> Any:
            marked = current[0]
            if marked is None:
                return None
            if tuple(output.shape[:2]) != tuple(marked.shape):
                raise ModelError(
                    f"{type(self.model.model).__name__} looks up token embeddings of shape {tuple(output.shape)}, "
                    f"wanted one for each of {tuple(marked.shape)} tokens; take words away in another way than 'mean'"
                )
            return torch.where(marked[..., None], self.mean.to(output), output)

        handle = self.table.register_forward_hook(of_this_thread(replace))
        try:
            yield mark
        finally:
            handle.remove()

    def _mean(self, background: str | None) -> torch.Tensor:
        import torch

        if background is None:
            ids = np.unique(np.fromiter(self.model.tokenizer.get_vocab().values(), dtype=np.int64))
        else:
            paragraphs = [p for p in re.split(r"\n\s*\n", check_text(background)) if p.strip()]
            tokens = [encode(self.model.tokenizer, p) for p in paragraphs]
            ids = np.concatenate([t.ids[~t.special] for t in tokens])
            if not len(ids):
                raise TextError(
                    f"background: {self.model.name} finds no token in {background[:40]!r}, so embeddings have no mean "
                    "there; give a text with words, or leave it away for the mean over the vocabulary"
                )
        net = self.model.model
        with lock_of(net), evaluating(net):
            parts = [torch.from_numpy(ids[k : k + CHUNK]).to(net.device) for k in range(0, len(ids), CHUNK)]
            total = torch.stack([self.table(part[None])[0].double().sum(dim=0) for part in parts]).sum(dim=0)
            return (total / len(ids)).to(net.dtype)
