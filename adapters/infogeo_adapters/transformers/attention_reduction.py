"""Attention of a text reduced while the model runs: block by block, so that the maps of all blocks are never kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, sealed
from infogeo.activations import AffinityMatrix, AttentionKind
from infogeo.errors import ArgumentError, ShapeError
from infogeo.results import Result, Source
from infogeo_adapters.transformers.alignment import Words, check_text
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.channels import blocks_of
from infogeo_adapters.transformers.forward import Item, Overflow, noted_source, prepare
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.pairs import prepare_pair
from infogeo_adapters.transformers.position import position_correlations
from infogeo_adapters.transformers.stack import Stack, encoded, evaluating, find_stack, run_model, runner

if TYPE_CHECKING:
    import torch

Named = Literal["head_mean", "words", "rollout"]
Reduce = Callable[[AttentionKind, "torch.Tensor"], Any]
"""What a map is, and the map (H, T, T) in float32 or the model's own wider format; returns an array."""

NAMES = {"head_mean": "mean attention of the heads", "words": "attention between words", "rollout": "attention rollout"}


@dataclass(frozen=True, eq=False, kw_only=True)
class ReducedAttention(Result):
    """What was kept of the attention of one text."""

    values: NDArray[Any]
    """(A, ...) one entry for each block in ``kinds``; of a rollout the product of all of them, (T, T)."""
    kinds: tuple[AttentionKind, ...]
    """(A) what each map was before it was reduced, in order of the blocks."""
    name: str
    """What the values are, for example ``mean attention of the heads``."""
    row_tokens: tuple[str, ...]
    """Tokens that look."""
    column_tokens: tuple[str, ...]
    """Tokens looked at; in cross attention those of the source."""
    row_words: tuple[str, ...]
    """Words that look."""
    column_words: tuple[str, ...]
    """Words looked at."""
    affinity: AffinityMatrix | None = None
    """Of a rollout what it is between words; None otherwise."""
    source: Source

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("block", "kind", "query_heads", "key_value_heads", "causal", "window", "sink", "implementation")
        return columns, [tuple(getattr(kind, c) for c in columns) for kind in self.kinds]

    def summary(self) -> str:
        return (
            f"ReducedAttention of {len(self.row_tokens)} tokens: {self.name}, {len(self.kinds)} blocks, "
            f"values of shape {self.values.shape} ({self.source.model})"
        )


def reduce_attention(
    model: LanguageModel,
    text: str,
    *,
    reduction: Named | Reduce = "head_mean",
    blocks: Sequence[int] | None = None,
    target: str | None = None,
    kind: Literal["self", "cross"] = "self",
    residual: float = 0.5,
    words: Words | None = None,
    target_words: Words | None = None,
    overflow: Overflow = "error",
) -> ReducedAttention:
    r"""Attention of one text, reduced block by block while the model runs.

    With :math:`A^{(l, h)}` the attention probabilities of block l and head h between tokens, the reductions are

    - ``"head_mean"``: :math:`\bar A^{(l)} = \frac{1}{H} \sum_h A^{(l, h)}`, values (A, T, T);
    - ``"words"``: :math:`a^{(l, h)}_{uv} = \frac{1}{\lvert u \rvert} \sum_{s \in u} \sum_{t \in v} A^{(l, h)}_{st}`,
      the mean over the tokens of the word that looks, the sum over those of the word looked at [1]_, values
      (A, H, n, n); weight on tokens of no word is left out and not spread;
    - ``"rollout"``: :math:`R = \tilde A^{(L)} \cdots \tilde A^{(1)}` with
      :math:`\tilde A^{(l)} = r I + (1 - r) \bar A^{(l)}` [2]_, values (T, T), and between words in ``affinity``: what
      :func:`~infogeo_adapters.attention_rollout` gives with ``relative_to_uniform=False``;
    - a function of an :class:`~infogeo.AttentionKind` and the map (H, T, T), a tensor on the model's device: what it
      returns for each block, an array or tensor, always of one shape.

    The model computes by its own implementation where it can (``kinds`` says which), as in
    :func:`~infogeo_adapters.transformers.attention_capture.recorded_attention`.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    text : str
        Of an encoder-decoder model what its encoder reads.
    reduction : {"head_mean", "words", "rollout"} or callable
    blocks : sequence of int, optional
        Blocks counted from 1, by default all that attend. A rollout needs all.
    target : str, optional
        Text that the decoder of an encoder-decoder model is to predict. With it the decoder's attention is reduced,
        its tokens being those it reads (see :func:`~infogeo_adapters.capture_encoder_decoder`), without it the
        encoder's.
    kind : {"self", "cross"}
        Of a decoder that reads a source: its attention to itself, or to the source; then rows are the target's tokens
        or words and columns the source's.
    residual : float
        Weight r of the residual path in a rollout, 0 <= r < 1.
    words, target_words : optional
        How the texts fall into words, as in :func:`~infogeo_adapters.capture_activations`.
    overflow : {"error", "truncate"}
        What to do with a text longer than the model's context.

    Returns
    -------
    ReducedAttention
        Values of the named reductions are float64.

    Raises
    ------
    TextError
        A text is empty, too long, or has a word that no token stands for.
    ModelError
        The model gives no attention, or a block that was asked for has none.
    ArgumentError
        An argument has no such value, or a rollout lacks a block.
    ShapeError
        The function returns arrays of different shapes.

    Notes
    -----
    Beside what the pass itself needs, one block's map is alive at a time: :math:`2 H T^2` numbers while its softmax is
    taken, :math:`H T^2` while it is reduced, then only the results. 12 heads and 1024 tokens take 100 MB in float32,
    whatever the number of blocks, where the maps of 12 blocks take 600 MB. Only XLNet, whose maps its output alone
    holds, keeps those of all blocks until the pass ends.

    References
    ----------
    .. [1] K. Clark, U. Khandelwal, O. Levy, C. Manning, "What does BERT look at? An analysis of BERT's attention",
       BlackboxNLP 2019, section 4.1.
    .. [2] S. Abnar, W. Zuidema, "Quantifying attention flow in transformers", ACL 2020, equation 1.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = reduce_attention(load_model(), "The dog ran home.", blocks=[2, 6])
    >>> found.values.shape == (2, len(found.row_tokens), len(found.row_tokens)), [k.block for k in found.kinds]
    (True, [2, 6])
    >>> from scipy.stats import entropy
    >>> def mean_entropy(kind, maps):
    ...     return entropy(maps.cpu().numpy(), axis=-1).mean(axis=-1)
    >>> reduce_attention(load_model(), "The dog ran home.", reduction=mean_entropy).values.shape  # blocks, heads
    (6, 5)
    """
    _check(model, reduction, target, kind, residual)
    if target is None:
        item = prepare(model, check_text(text), words, overflow)
        looking, looked_at = item, item
        stack = find_stack(model.model)
    else:
        pair = prepare_pair(model, text, target, words, target_words, overflow)
        looking, looked_at = pair.target, pair.target if kind == "self" else pair.source
        stack = find_stack(model.model, "decoder")
    chosen = _blocks(model, stack, blocks, kind, whole=reduction == "rollout")
    total = np.eye(len(looking.tokens.ids))

    def reduce(found: AttentionKind, maps: torch.Tensor) -> Any:
        nonlocal total
        if found.kind != kind:
            return None
        one = maps[0].float() if maps.dtype.itemsize < 4 else maps[0]
        if callable(reduction):
            return _array(reduction(found, one))
        if reduction == "words":
            return _between_words(one, _pooling(looking.table, looking), _owned(looked_at.table, looked_at))
        mean = _head_mean(one)
        if reduction == "head_mean":
            return mean
        total = (residual * np.eye(len(mean)) + (1 - residual) * mean) @ total
        return None

    with lock_of(model.model):
        source = noted_source(model, stack)
        with evaluating(model.model), recorded_attention(model.model, stack, blocks=chosen, reduce=reduce) as record:
            output = _run(model, stack, looking, None if target is None else pair.source)
            kept = [(k, value) for k, value in record.finish(output) if k.kind == kind]
    name = getattr(reduction, "__name__", type(reduction).__name__) if callable(reduction) else str(reduction)
    source = replace(source, text_hash=_hash(looking.text)).with_options(
        **looking.options, reduction=name, kind=kind, **({"residual": residual} if name == "rollout" else {})
    )
    if target is not None:
        source = source.with_options(source_text_hash=_hash(pair.source.text))
    rolled = reduction == "rollout"
    return ReducedAttention(
        values=sealed(total) if rolled else _stacked(name, [value for _, value in kept]),
        kinds=tuple(k for k, _ in kept), name=NAMES.get(name, name) if not callable(reduction) else name,
        row_tokens=_tokens(model, looking), column_tokens=_tokens(model, looked_at), row_words=_words(looking),
        column_words=_words(looked_at), affinity=_affinity(total, looking, residual, source) if rolled else None,
        source=source,
    )


def _check(
    model: object, reduction: object, target: str | None, kind: str, residual: float
) -> None:
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    if not callable(reduction) and reduction not in NAMES:
        raise ArgumentError(f"reduction {reduction!r} does not exist; choose {', '.join(NAMES)} or a function")
    if kind not in ("self", "cross"):
        raise ArgumentError(f"kind {kind!r} does not exist; choose 'self' or 'cross'")
    if target is not None and not model.model.config.is_encoder_decoder:
        raise ArgumentError(f"target: {model.name} has no encoder and decoder, so it reads one text only; leave it out")
    if kind == "cross" and (target is None or reduction == "rollout"):
        raise ArgumentError(
            "kind 'cross': found no target, wanted a text for the decoder" if target is None else
            "a rollout multiplies attention between the same tokens; kind must be 'self'"
        )
    if isinstance(residual, bool) or not isinstance(residual, int | float) or not 0 <= residual < 1:
        raise ArgumentError(f"residual: found {residual!r}, wanted a weight of at least 0 and below 1")


def _blocks(
    model: LanguageModel, stack: Stack, blocks: Sequence[int] | None, kind: str, *, whole: bool
) -> list[int] | None:
    """The blocks to record: those given, all for a rollout."""
    chosen = None if blocks is None else list(blocks_of(stack.depth, blocks))
    if whole:
        having = [k.block for k in attention_access(model.model, stack).kinds if k.kind == kind]
        wanted = list(range(1, stack.depth + 1))
        if having != wanted or (chosen is not None and sorted(set(chosen)) != wanted):
            raise ArgumentError(
                f"attention can be followed from top to bottom only through every block; of blocks 1 to {stack.depth} "
                f"attend {having}, asked for were {chosen or 'all'}; use the reduction 'head_mean' or 'words'"
            )
    return chosen


def _run(model: LanguageModel, stack: Stack, looking: Item, read: Item | None) -> Any:
    """One pass of the stack over a text, after one of the encoder over the source if there is one."""
    import torch

    def tensor(values: IntArray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.int64)[None]).to(model.model.device)

    more: dict[str, torch.Tensor] = {}
    if "token_type_ids" in model.tokenizer.model_input_names:
        more["token_type_ids"] = tensor(looking.tokens.types)
    if read is not None:
        more |= encoded(model.model, tensor(read.tokens.ids), torch.ones_like(tensor(read.tokens.ids)))
    ids = tensor(looking.tokens.ids)
    return run_model(runner(model.model, stack.side), ids, torch.ones_like(ids), **more)


def _head_mean(maps: torch.Tensor) -> FloatArray:
    """Mean over heads in float64, without a copy of the map in it."""
    import torch

    maps = maps.cpu()
    total = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for head in maps:
        total += head
    mean: FloatArray = np.asarray((total / len(maps)).numpy())
    return mean


def _between_words(maps: torch.Tensor, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Each head pooled to words, (H, n, n)."""
    pooled: FloatArray = np.stack([rows @ head.cpu().numpy().astype(np.float64) @ columns for head in maps])
    return pooled


def _owned(table: IntArray, item: Item) -> FloatArray:
    """One where a token (row) belongs to a word (column), (T, n)."""
    owned: FloatArray = (table[:, None] == np.arange(len(item.spans))[None, :]).astype(np.float64)
    return owned


def _pooling(table: IntArray, item: Item) -> FloatArray:
    """Weights (n, T) that average over the tokens of each word."""
    owned = _owned(table, item)
    weights: FloatArray = (owned / owned.sum(axis=0)).T
    return weights


def _affinity(rollout: FloatArray, item: Item, residual: float, source: Source) -> AffinityMatrix:
    looking = _pooling(item.table, item) @ rollout
    values = looking @ _owned(item.table, item)
    return AffinityMatrix(
        values=values, words=_words(item), name=NAMES["rollout"], directed=True,
        outside=looking[:, item.table < 0].sum(axis=1),
        source=source.with_options(
            affinity="attention_rollout", residual=residual, relative_to_uniform=False, **position_correlations(values)
        ),
    )


def _array(value: Any) -> NDArray[Any]:
    """What a function returned as an array of its own."""
    import torch

    if isinstance(value, torch.Tensor):
        half = value.is_floating_point() and value.dtype.itemsize < 4
        value = (value.float() if half else value).detach().cpu().numpy()
    return np.array(value)


def _stacked(name: str, values: list[NDArray[Any]]) -> NDArray[Any]:
    shapes = {v.shape for v in values}
    if len(shapes) > 1:
        raise ShapeError(f"reduction {name}: found arrays of shapes {sorted(shapes)}, wanted one shape for all blocks")
    stacked = np.stack(values)
    if stacked.dtype == object:
        raise ShapeError(f"reduction {name}: found {type(values[0].flat[0]).__name__}, wanted an array of numbers")
    stacked.setflags(write=False)
    return stacked


def _tokens(model: LanguageModel, item: Item) -> tuple[str, ...]:
    return tuple(model.tokenizer.convert_ids_to_tokens(item.tokens.ids.tolist()))


def _words(item: Item) -> tuple[str, ...]:
    return tuple(item.text[i:j] for i, j in item.spans)


def _hash(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
