"""Ways to take a word away from a text, of which each says what the model then reads in its place."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, check_count
from infogeo.errors import ArgumentError, ModelError
from infogeo_adapters.transformers.forward import Item
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import Stack

if TYPE_CHECKING:
    import torch

Marks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One reading of a text: the whole of it, or one word taken away."""

    word: int
    """The word that is taken away; -1 for the text as it is."""
    ids: IntArray
    types: IntArray
    marked: Marks | None = None
    """(T,) tokens that are hidden, or whose embedding is replaced; None for none."""
    kept: IntArray | None = None
    """Tokens of the text that are left, in order; None for all."""


Mark = Callable[["torch.Tensor | None", "torch.Tensor"], "torch.Tensor"]
"""Called before each pass with the marked tokens (texts, T), or None, and the mask; returns the mask to run with."""


def _unchanged(marked: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
    return mask


@dataclass(frozen=True, eq=False)
class Removal:
    """How a word is taken away; the base of the ways that there are, and of one's own.

    A way of one's own overrides :meth:`ready`, and says in ``name`` what stands in results. Two objects are one way
    only if they are the same object, or a frozen dataclass with the same settings. In a causal model it leaves what
    comes before the word as it is: influence on earlier words is set to zero.
    """

    name: ClassVar[str] = ""
    random: ClassVar[bool] = True
    """False if the seed decides nothing; what is estimated is then kept for all seeds."""

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        """The way made ready for a model.

        Raises
        ------
        ModelError
            The model does not offer it.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it is made ready for a model")

    def options(self) -> dict[str, str | int | float | bool | None]:
        """The choices, for the record of results."""
        chosen = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {f"removal_{name}": _noted(value) for name, value in chosen.items() if value is not None}


class Remover:
    """A way to take words away, ready for one model: rows to read, and what is set on the model meanwhile."""

    def rows(self, item: Item, word: int) -> list[Row]:
        """The readings of a text without a word: one, or one for each sample."""
        raise NotImplementedError(f"{type(self).__name__} must say what is read without a word")

    @contextlib.contextmanager
    def acting(self) -> Iterator[Mark]:
        """What must be set on the model while rows are run; hold its lock and evaluation mode around it."""
        yield _unchanged


def tokens_of(item: Item, word: int) -> Marks:
    """(T,) True for the tokens of a word."""
    return np.asarray(item.table == word)


@dataclass(frozen=True)
class HideWord(Removal):
    """The word's tokens are hidden from the attention of all tokens, in all blocks or in some.

    Its keys and values are closed to every query, its own among them; nothing else changes: the word is still a place
    in the text, and all other words keep their positions. A token that would then see nothing (the first of a causal
    text that is hidden itself) sees itself, and nobody sees it. That nothing else reaches the other words is measured
    when a model is first used so; models in which words also reach each other by convolution or recurrence, and those
    without attention, refuse.

    Parameters
    ----------
    blocks : iterable of int, optional
        The blocks, counted from 1, in which the word is hidden; all by default. In the others it is seen as ever.
    """

    name: ClassVar[str] = "hide"
    random: ClassVar[bool] = False
    blocks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _block_numbers(self.blocks))

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        from infogeo_adapters.transformers._removal_hiding import check_blocks, find_hideout

        beyond = [b for b in self.blocks or () if b > stack.depth]
        if beyond:
            raise ArgumentError(f"blocks: found {beyond[0]}, wanted whole numbers from 1 to {stack.depth}")
        blocks = None if self.blocks is None else frozenset(self.blocks)
        check_blocks(model.model, stack, find_hideout(model.model, stack), blocks)
        return _Hider(model, stack, blocks)


@dataclass(frozen=True, eq=False)
class _Hider(Remover):
    model: LanguageModel
    stack: Stack
    blocks: frozenset[int] | None

    def rows(self, item: Item, word: int) -> list[Row]:
        return [Row(word=word, ids=item.tokens.ids, types=item.tokens.types, marked=tokens_of(item, word))]

    @contextlib.contextmanager
    def acting(self) -> Iterator[Mark]:
        from infogeo_adapters.transformers._removal_hiding import curtain

        with curtain(self.model.model, self.stack, blocks=self.blocks) as drawn:

            def mark(marked: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
                drawn.draw(marked)
                return drawn.visible(mask)

            yield mark


@dataclass(frozen=True)
class MaskWord(Removal):
    """Each token of the word is replaced by the tokenizer's mask token; a model without one refuses."""

    name: ClassVar[str] = "mask"
    random: ClassVar[bool] = False

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        return _Masker(mask_token(model))


@dataclass(frozen=True, eq=False)
class _Masker(Remover):
    token: int

    def rows(self, item: Item, word: int) -> list[Row]:
        ids = np.where(tokens_of(item, word), self.token, item.tokens.ids)
        return [Row(word=word, ids=ids, types=item.tokens.types)]


def mask_token(model: LanguageModel) -> int:
    """The number of the mask token, or a ModelError if the tokenizer has none."""
    token = model.tokenizer.mask_token_id
    if token is None:
        draws = model.kind == "decoder" and model.has_head
        others = "'hide', 'delete', 'mean' or 'resample'" if draws else "'hide', 'delete' or 'mean'"
        raise ModelError(
            f"{model.name} has no mask token, so no word can be replaced by it; take words away by {others}"
        )
    return int(token)


@dataclass(frozen=True)
class DeleteWord(Removal):
    """The word's tokens are taken out, and what follows moves up: the other words are read at smaller positions.

    The tokens that are left are those of the whole text; it is not cut into tokens anew. The word itself has no state
    then, and its place in the result is NaN.
    """

    name: ClassVar[str] = "delete"
    random: ClassVar[bool] = False

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        return _Deleter()


class _Deleter(Remover):
    def rows(self, item: Item, word: int) -> list[Row]:
        kept = np.flatnonzero(~tokens_of(item, word))
        return [Row(word=word, ids=item.tokens.ids[kept], types=item.tokens.types[kept], kept=kept)]


@dataclass(frozen=True)
class MeanEmbedding(Removal):
    """Each token of the word gets the mean token embedding, at its own position.

    Parameters
    ----------
    background : str, optional
        A text over whose tokens the mean is taken, so that frequent tokens count more. By default the mean is over the
        vocabulary of the tokenizer, each token once.
    """

    name: ClassVar[str] = "mean"
    random: ClassVar[bool] = False
    background: str | None = dataclasses.field(default=None, repr=False)

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        from infogeo_adapters.transformers._removal_embedding import EmbeddingAverager

        return EmbeddingAverager(model, stack, self.background)

    def options(self) -> dict[str, str | int | float | bool | None]:
        return {"removal_mean_over": "vocabulary" if self.background is None else "background"}


@dataclass(frozen=True)
class ResampleWord(Removal):
    """The word's tokens are replaced by tokens that the model itself predicts there, several times over.

    A masked language model predicts all tokens of the word at once from the rest of the text, with the mask token in
    their places, and each is drawn by itself. A causal one draws them one after the other from the left context, which
    begins with the tokenizer's token for the beginning of a text where the word comes first. Special tokens are never
    drawn. The draws of a text depend on the seed and on the text alone. The word itself may be drawn.

    Of a text given twice both copies get the same tokens, drawn in the first; only where the word has another number of
    tokens in the second copy (at the beginning of a text it may be written otherwise) is it drawn there by itself.

    Parameters
    ----------
    samples : int
        How many replacements of each word are drawn; distances are averaged over them.
    """

    name: ClassVar[str] = "resample"
    samples: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", check_count("samples", self.samples, 1))

    def ready(self, model: LanguageModel, stack: Stack, seed: int) -> Remover:
        from infogeo_adapters.transformers._removal_sampling import Resampler

        return Resampler(model, stack, self.samples, seed)


REMOVALS: Mapping[str, Removal] = MappingProxyType({
    way.name: way for way in (HideWord(), MaskWord(), DeleteWord(), MeanEmbedding(), ResampleWord())
})
"""The ways by name, as they are without settings."""


def find_removal(removal: str | Removal, blocks: Iterable[int] | None = None) -> Removal:
    """The way of a name, or the way itself; ``blocks`` are those in which a word is hidden.

    Raises
    ------
    ArgumentError
        There is none of that name, it cannot be told from others, or blocks are given for another way than 'hide', or
        for one that says so itself.
    """
    if isinstance(removal, str):
        if removal not in REMOVALS:
            raise ArgumentError(f"removal {removal!r} does not exist; choose {', '.join(REMOVALS)}")
        removal = REMOVALS[removal]
    if not isinstance(removal, Removal):
        raise ArgumentError(f"removal: found {removal!r}, wanted {', '.join(map(repr, REMOVALS))}, or a Removal")
    try:
        hash(removal)
    except TypeError as error:
        raise ArgumentError(
            f"removal: the settings of {type(removal).__name__} cannot be hashed ({error}), so that what is estimated "
            "for it cannot be told from others; give them as numbers, text or tuples"
        ) from error
    if blocks is None:
        return removal
    if not isinstance(removal, HideWord):
        raise ArgumentError(f"blocks: means something only for removal='hide', not {removal.name!r}; leave it away")
    numbers = _block_numbers(blocks)
    if removal.blocks is not None and removal.blocks != numbers:
        raise ArgumentError(f"blocks: found {numbers}, but the removal says {removal.blocks}; leave blocks= away")
    return dataclasses.replace(removal, blocks=numbers)


def _noted(value: Any) -> str | int | float | bool:
    """A setting as it stands in the record of results."""
    if isinstance(value, str | int | float | bool):
        return value
    return ",".join(map(str, value)) if isinstance(value, tuple | list | frozenset) else str(value)


def _block_numbers(blocks: Iterable[SupportsIndex]) -> tuple[int, ...]:
    try:
        given: list[Any] = list(blocks)
    except TypeError as error:
        raise ArgumentError(f"blocks: found {blocks!r}, wanted whole numbers counted from 1") from error
    for block in given:
        if isinstance(block, bool) or not isinstance(block, SupportsIndex) or index(block) < 1:
            raise ArgumentError(f"blocks: found {block!r}, wanted whole numbers counted from 1")
    if not given:
        raise ArgumentError("blocks: found none, wanted at least one; leave blocks= away for all")
    return tuple(sorted({index(block) for block in given}))
