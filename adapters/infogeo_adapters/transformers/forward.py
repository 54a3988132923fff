"""Texts made ready and run in batches: one forward pass, its padding cut away again."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo.activations import AttentionKind, LayerActivations
from infogeo.errors import ModelError, TextError
from infogeo.results import Source
from infogeo_adapters.transformers.alignment import (
    Span,
    Tokens,
    Words,
    check_coverage,
    check_text,
    encode,
    join_words,
    token_table,
    word_spans,
    written_specials,
)
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    PROBE,
    Stack,
    encoded,
    evaluating,
    find_stack,
    hooked,
    padded_probe,
    residual_stream,
    rounding,
    run_model,
    run_probe,
    runner,
)

if TYPE_CHECKING:
    import torch

Overflow = Literal["error", "truncate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """A text ready to be run."""

    text: str
    tokens: Tokens
    spans: list[Span]
    table: IntArray
    options: dict[str, str | int | float | bool | None]
    read: NDArray[np.bool_] | None = None
    """(T,) tokens at which words are read, in a text that is given twice; None for all."""


def prepare(
    model: LanguageModel, text: str, words: Words | None, overflow: Overflow, *, target: bool = False
) -> Item:
    """Tokens and words of a text that has been checked, aligned and within the context.

    With ``target`` the tokens are labels: those that the tokenizer makes of a text to predict.

    Raises
    ------
    TextError
        The text is too long, or a word has no token.
    """
    tokens = encode(model.tokenizer, text, target=target)
    spans = word_spans(text, words, whole=written_specials(model.tokenizer, text, tokens))
    options: dict[str, str | int | float | bool | None] = {"words": splitter_name(words)}
    limit = model.context_length
    if limit is not None and len(tokens.ids) > limit:
        if overflow == "error":
            raise TextError(
                f"the text has {len(tokens.ids)} tokens (special tokens counted), the context of {model.name} holds "
                f"{limit}; cut it with overflow='truncate' or into several texts with split_into_windows(model, text)"
            )
        kept = _fitting(model, text, tokens, spans, limit, target)
        options["truncated_words"] = len(spans) - len(kept)
        text, spans = text[: kept[-1][1]], kept
        tokens = encode(model.tokenizer, text, target=target)
    if words is None:
        joined = join_words(text, tokens, spans)
        if len(joined) < len(spans):
            options["joined_words"] = len(spans) - len(joined)
        spans = joined
    table = token_table(text, tokens, spans)
    check_coverage(text, model.tokenizer, table, spans)
    return Item(text=text, tokens=tokens, spans=spans, table=table, options=options)


@contextlib.contextmanager
def of_text(number: int | None) -> Iterator[None]:
    """Say in a TextError which of several texts it is about, counted from 0; None for the only one."""
    try:
        yield
    except TextError as error:
        if number is None:
            raise
        raise TextError(f"text {number}: {str(error).removeprefix('text: ')}") from error


def prepare_all(
    model: LanguageModel, texts: Sequence[str], words: Sequence[Words | None], overflow: Overflow, *, one: bool = False
) -> list[Item]:
    """As :func:`prepare`, of several texts; an error says which one it is about, unless there is ``one`` only."""
    items = []
    for number, (text, split) in enumerate(zip(texts, words, strict=True)):
        with of_text(None if one else number):
            items.append(prepare(model, check_text(text), split, overflow))
    return items


def _fitting(
    model: LanguageModel, text: str, tokens: Tokens, spans: list[Span], limit: int, target: bool
) -> list[Span]:
    """The longest beginning of the words whose text fits the context."""
    room = limit - int(tokens.special.sum())
    reach = int(tokens.spans[~tokens.special][:room][-1, 1]) if room > 0 else 0
    kept = [span for span in spans if span[1] <= reach]
    while kept and len(encode(model.tokenizer, text[: kept[-1][1]], target=target).ids) > limit:
        kept.pop()
    if not kept:
        raise TextError(f"the first word alone takes more than the {limit} tokens of the context; shorten it")
    return kept


def splitter_name(words: Words | None) -> str:
    """How the words came about, for the record."""
    if words is None:
        return "split_words"
    return getattr(words, "__name__", type(words).__name__) if callable(words) else "given"


def run_items(
    model: LanguageModel, items: Sequence[Item], *, attention: bool, batch_tokens: int
) -> Iterator[tuple[int, LayerActivations]]:
    """Results with their positions among the items, batch by batch, shortest texts first."""
    stack = find_stack(model.model)
    for batch in batches_of([len(item.tokens.ids) for item in items], batch_tokens, exact=stack.pads_exactly):
        yield from zip(batch, _run_batch(model, stack, [items[i] for i in batch], attention), strict=True)


def batches_of(lengths: Sequence[int], batch_tokens: int, *, exact: bool) -> Iterator[list[int]]:
    """Positions of texts that run together, shortest texts first; without exact padding only equal lengths."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        full = (len(batch) + 1) * lengths[i] > batch_tokens
        if batch and (full or (not exact and lengths[i] != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _run_batch(
    model: LanguageModel, stack: Stack, items: Sequence[Item], attention: bool
) -> Iterator[LayerActivations]:
    with lock_of(model.model):
        source = noted_source(model, stack)
        with evaluating(model.model):
            found = run_stack(model, stack, [item.tokens for item in items], attention=attention)
    for b, item in enumerate(items):
        yield as_activations(model, source, stack, item, found, b)


def noted_source(model: LanguageModel, stack: Stack) -> Source:
    """The source of what is captured now; call it before the model is put into evaluation mode."""
    source = model.current_source()
    if stack.side is not None:
        source = source.with_options(side=stack.side)
    if any(module.training for module in model.model.modules()):
        source = source.with_options(was_training=True)
    return source


@dataclass(frozen=True, eq=False, kw_only=True)
class Pass:
    """What one stack computed on a batch of texts, as arrays, and what it returned."""

    output: Any
    mask: torch.Tensor
    """(texts, T) one for a token, zero for padding."""
    states: list[NDArray[Any]]
    """Of each layer (texts, T, d)."""
    maps: dict[str, Maps]
    """Attention by kind, ``self`` and in a decoder of two stacks ``cross``, of the blocks that have any."""


class Maps:
    """Maps of one kind, of several blocks, put away text by text without padding while the model runs."""

    def __init__(self, name: str, kinds: Sequence[AttentionKind], n_queries: Sequence[int], n_keys: Sequence[int]):
        self.name = name
        self.kinds = tuple(kinds)
        self.of_text: list[NDArray[Any]] = []
        """For each text (A, H, queries, keys)."""
        self._n_queries, self._n_keys = n_queries, n_keys

    def put(self, kind: AttentionKind, maps: torch.Tensor) -> None:
        """One block's map (texts, H, T, T); a ModelError unless it is over all tokens, with the heads of the first."""
        heads = self.kinds[0].query_heads
        wanted = (len(self._n_queries), heads, max(self._n_queries), max(self._n_keys))
        if tuple(maps.shape) != wanted:
            raise ModelError(
                f"the {kind.kind} attention of block {kind.block} of {self.name} has the shape {tuple(maps.shape)}, "
                f"wanted {wanted}, one map over all tokens for each head, and as many heads as the first; capture it "
                "with attention=False"
            )
        lengths = list(zip(self._n_queries, self._n_keys, strict=True))
        found = [as_numpy(maps[b, :, :t, :k]) for b, (t, k) in enumerate(lengths)]
        if not self.of_text:
            self.of_text = [np.empty((len(self.kinds), *m.shape), dtype=m.dtype) for m in found]
        for mine, one in zip(self.of_text, found, strict=True):
            mine[self.kinds.index(kind)] = one


def run_stack(
    model: LanguageModel, stack: Stack, rows: Sequence[Tokens], *, attention: bool,
    sources: Sequence[Tokens] | None = None, **more: Any,
) -> Pass:
    """Run one stack on a batch of texts, padded on the right.

    The caller holds the model's lock and has set its mode; ``sources`` are the texts that a decoder of two stacks looks
    at, needed for its attention, and ``more`` is passed on to the stack.
    """
    net, tokenizer = model.model, model.tokenizer
    part = runner(net, stack.side)
    ids = _padded(model, [row.ids for row in rows], tokenizer.pad_token_id or 0)
    mask = _padded(model, [np.ones(len(row.ids), dtype=np.int64) for row in rows], 0)
    if "token_type_ids" in tokenizer.model_input_names:
        more["token_type_ids"] = _padded(model, [row.types for row in rows], tokenizer.pad_token_type_id)
    blocks = {stack.path: part.get_submodule(stack.path)}
    maps: dict[str, Maps] = {}
    with contextlib.ExitStack() as scope:
        record = None
        if attention:  # each map leaves the device when it exists, so that they never pile up there
            record = scope.enter_context(recorded_attention(net, stack, reduce=lambda k, m: maps[k.kind].put(k, m)))
            lengths = {"self": [len(row.ids) for row in rows], "cross": [len(row.ids) for row in sources or ()]}
            for name in dict.fromkeys(kind.kind for kind in record.kinds):
                own = [kind for kind in record.kinds if kind.kind == name]
                maps[name] = Maps(type(net).__name__, own, lengths["self"], lengths[name])
        firings = scope.enter_context(hooked(blocks, all_inputs=False))
        output = run_model(part, ids, mask, **more)
        states = [as_numpy(s) for s in residual_stream(stack, firings[stack.path])]
        if record is not None:
            record.finish(output)
    return Pass(output=output, mask=mask, states=states, maps=maps)


def _padded(model: LanguageModel, rows: Sequence[IntArray], fill: int) -> torch.Tensor:
    import torch

    table = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for line, values in zip(table, rows, strict=True):
        line[: len(values)] = values
    return torch.from_numpy(table).to(model.model.device)


def as_activations(
    model: LanguageModel, source: Source, stack: Stack, item: Item, found: Pass, b: int
) -> LayerActivations:
    """The result for text ``b`` of a batch, its padding cut away."""
    t = len(item.tokens.ids)
    kinds, weights = attention_of(found, "self", b)
    source = replace(source, text_hash=hashlib.sha256(item.text.encode()).hexdigest())
    return LayerActivations(
        text=item.text, words=tuple(item.text[i:j] for i, j in item.spans),
        word_spans=np.array(item.spans, dtype=np.int64),
        tokens=tuple(model.tokenizer.convert_ids_to_tokens(item.tokens.ids.tolist())), token_ids=item.tokens.ids,
        token_spans=item.tokens.spans, token_words=item.table, special=item.tokens.special,
        hidden_states=np.stack([s[b, :t] for s in found.states]), attention=weights,
        attention_layers=tuple(kind.block for kind in kinds), attention_kinds=kinds, causal=stack.causal,
        source=source.with_options(**item.options),
    )


def attention_of(
    found: Pass, kind: Literal["self", "cross"], b: int
) -> tuple[tuple[AttentionKind, ...], NDArray[Any] | None]:
    """What each map of one kind is, and the maps of text ``b`` of a batch (A, H, queries, keys)."""
    if kind not in found.maps:
        return (), None
    return found.maps[kind].kinds, found.maps[kind].of_text[b]


def as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """As a NumPy array; the half-precision formats become float32."""
    array: NDArray[Any] = (tensor.float() if tensor.dtype.itemsize < 4 else tensor).detach().cpu().numpy()
    return array


def padding_differences(model: LanguageModel) -> dict[str, float | str]:
    r"""How much the states of a text change when it is padded: a short text alone, and the same beside a longer one.

    With :math:`h_\ell` the states of the text's own tokens at layer :math:`\ell`, alone and padded, the difference is

    .. math:: \max_\ell \; \lVert h_\ell - h'_\ell \rVert_\infty / \lVert h_\ell \rVert_\infty .

    Parameters
    ----------
    model : LanguageModel

    Returns
    -------
    dict of str to float or str
        ``"right"``: padded on the right, as a capture pads. Where it is more than rounding (FNet, which cannot mask), a
        capture runs only texts of equal length together.

        ``"left"``: padded on the left, with the positions left to the model or, where its forward pass takes
        ``position_ids``, counted from the first token that is not masked, whichever is nearer. A text that says why
        instead of a number, where tokens know their absolute position and the forward pass cannot be told it.

        ``"decoder"``: of an encoder-decoder model the same as ``"right"`` for its decoder, with source and target
        padded; the other two are of its encoder.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = padding_differences(load_model())
    >>> sorted(found), max(found.values()) < 1e-5
    (['left', 'right'], True)
    """
    net = model.model
    stack = find_stack(net)
    ids, mask = padded_probe(net)
    rows = [_row(ids[0, :PROBE]), _row(ids[1])]
    with lock_of(net), evaluating(net):
        alone = run_stack(model, stack, rows[:1], attention=False).states
        found: dict[str, float | str] = {
            "right": _difference(alone, run_stack(model, stack, rows, attention=False).states),
            "left": _left_difference(model, stack, alone, ids, mask.flip(1)),
        }
        if stack.side is not None:
            decoder = find_stack(net, "decoder")
            sources: list[dict[str, Any]] = [encoded(net, ids[:1, :PROBE], mask[:1, :PROBE]), encoded(net, ids, mask)]
            found["decoder"] = _difference(*(
                run_stack(model, decoder, rows[:k], attention=False, **source).states
                for k, source in enumerate(sources, start=1)
            ))
    return found


def _left_difference(
    model: LanguageModel, stack: Stack, alone: list[NDArray[Any]], ids: torch.Tensor, mask: torch.Tensor
) -> float | str:
    import torch

    net, part = model.model, runner(model.model, stack.side)
    ids = ids.clone()
    ids[0] = ids[0].roll(ids.shape[1] - PROBE)
    ids[0, :-PROBE] = model.tokenizer.pad_token_id or 0
    ways: list[dict[str, Any]] = [{}]
    if "position_ids" in inspect.signature(part.forward).parameters:
        tables = [m for n, m in part.named_modules() if isinstance(m, torch.nn.Embedding) and "position" in n]
        # RoBERTa and its kin number positions from padding_idx + 1
        starts = {0, *(m.padding_idx + 1 for m in tables if m.padding_idx is not None)}
        ways += [{"position_ids": (mask.cumsum(1) - 1).clamp(min=0) + start} for start in sorted(starts)]
    passes = (run_probe(net, stack, ids, mask, **way)[0][:, :1, -PROBE:] for way in ways)
    least = min(_difference(alone, [as_numpy(layer) for layer in states]) for states in passes)
    if least > rounding(net) and len(ways) == 1:
        same = ids[:1, -1:].repeat(1, PROBE)
        first = run_probe(net, stack, same, torch.ones_like(same))[0][0, 0]
        if float((first - first[:1]).abs().max()) > rounding(net) * float(first.abs().max()):
            return f"{type(net).__name__} has absolute positions and its forward pass takes no position_ids"
    return least


def _row(ids: torch.Tensor) -> Tokens:
    numbers = ids.cpu().numpy()
    none = np.zeros_like(numbers)
    return Tokens(ids=numbers, spans=np.stack([none, none], axis=1), special=none.astype(bool), types=none)


def _difference(alone: list[NDArray[Any]], padded: list[NDArray[Any]]) -> float:
    """The largest difference of the first text's tokens, each layer relative to its largest state."""
    t = alone[0].shape[1]
    return max(
        float(np.abs(a[0] - b[0, :t]).max() / np.abs(a[0]).max()) for a, b in zip(alone, padded, strict=True)
    )
