"""What the steps inside the blocks make of a text: queries, keys, values, the stream in between, the feed-forward."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import check_count, sealed
from infogeo.activations import LayerActivations
from infogeo.errors import ArgumentError, ModelError
from infogeo.stages import EMBEDDING_STAGES, HEAD_STAGES, SOURCE_STAGES, StageActivations, check_stages
from infogeo_adapters.transformers._stage_embeddings import before_blocks
from infogeo_adapters.transformers._stage_places import Place, tensors_in
from infogeo_adapters.transformers._stage_plan import ENDS, ROTATED, Key, Plan, make_plan
from infogeo_adapters.transformers._stage_watch import Call, Watch, watched
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_capture, several_texts, words_of_each
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.forward import Item, Overflow, batches_of, prepare_all, run_items
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.pairs import Pair, batches_of_pairs, prepare_pairs, run_pairs
from infogeo_adapters.transformers.stack import find_stack, runner
from infogeo_adapters.transformers.token_rows import states_of

if TYPE_CHECKING:
    import torch

Value = NDArray[np.floating[Any]]


@overload
def capture_stages(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: str, *, stages: str | Sequence[str] | None = ..., blocks: Sequence[int] | None = ...,
    target: str | None = ..., words: Words | None = ..., overflow: Overflow = ..., batch_tokens: int = ...,
) -> StageActivations: ...


@overload
def capture_stages(
    model: LanguageModel, text: Sequence[str], *, stages: str | Sequence[str] | None = ...,
    blocks: Sequence[int] | None = ..., target: Sequence[str] | None = ..., words: Any = ..., overflow: Overflow = ...,
    batch_tokens: int = ...,
) -> list[StageActivations]: ...


def capture_stages(
    model: LanguageModel,
    text: str | Sequence[str],
    *,
    stages: str | Sequence[str] | None = None,
    blocks: Sequence[int] | None = None,
    target: str | Sequence[str] | None = None,
    words: Any = None,
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
) -> StageActivations | list[StageActivations]:
    r"""Run a model on one text or many and keep what the steps inside its blocks give.

    ==========================  ===========================================================  ==============
    stage                       what it is                                                   shape
    ==========================  ===========================================================  ==============
    ``token_embedding``         what the input embedding returns                             (T, e)
    ``position_embedding``      what is added for the position, where something is           (T, e)
    ``embedding``               layer 0, what enters block 1                                 (T, d)
    ``resid_pre``               the residual stream before the block                         (T, d)
    ``attention_input``         what queries, keys and values are made from                  (T, d)
    ``query``, ``key``,         as their projections return them: before rotary positions    (T, H, head)
    ``value``                   and before norms of queries and keys
    ``rotated_query``,          as attention multiplies them: after rotary positions,        (T, H, head)
    ``rotated_key``             norms, and a factor on queries where a model has one
    ``attention_output``        what the output projection returns                           (T, d)
    ``resid_mid``               the stream between attention and what comes next             (T, d)
    ``cross_query``             queries of cross attention                                   (T, H, head)
    ``cross_key``,              keys and values of cross attention, made from the            (S, H, head)
    ``cross_value``             encoder's output
    ``cross_attention_output``  what its output projection returns                           (T, d)
    ``resid_cross``             the stream between cross attention and the feed-forward      (T, d)
    ``feed_forward_input``      what its first maps read                                     (T, d)
    ``feed_forward_output``     what its last map returns, or a whole mixture of experts     (T, d)
    ``resid_post``              the residual stream after the block                          (T, d)
    ==========================  ===========================================================  ==============

    for T tokens (S of the source text), width d, and H heads, of which keys and values have fewer where query heads
    share them. Outputs of attention and feed-forward are those of their last map, before any norm, factor or sum that
    follows. In GPT-2, Llama and their kin

    .. math:: x_{\text{mid}} = x_{\text{pre}} + \text{attention}, \qquad
        x_{\text{post}} = x_{\text{mid}} + \text{feed-forward}.

    In BERT and BART, where a norm follows each sum, ``resid_mid`` is the normed sum. Blocks that run attention and
    feed-forward side by side (GPT-J, Falcon, Phi) have no ``resid_mid``.

    Where these are is found by running the model on a few tokens, not by names: projections by what depends on what
    (:mod:`infogeo_adapters.transformers.parts`), the stream as a tensor through which all that the block does with its
    input passes, which derivatives show (:mod:`infogeo_adapters.transformers._stage_places`). What is not found is
    absent, with the reason.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    text : str or sequence of str
    stages : str or sequence of str, optional
        Which stages, by default all that there are.
    blocks : sequence of int, optional
        Which blocks, counted from 1; all by default. The embedding stages are those of no block and come always.
    target : str or sequence of str, optional
        Of an encoder-decoder model, what the decoder is to write: then the stages are those of the decoder, which reads
        a start token and the target without its last token, as in
        :func:`~infogeo_adapters.capture_encoder_decoder`. Without a target they are those of the encoder.
    words : optional
        How a text (the target if there is one) falls into words, as in
        :func:`~infogeo_adapters.capture_activations`.
    overflow : {"error", "truncate"}
        What to do with a text longer than the context.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer text runs alone.

    Returns
    -------
    StageActivations, or a list of them
        One for one text; for many a list in their order. Arrays are float32, or float64 for a float64 model.

    Raises
    ------
    ModelError
        A stage asked for by name is in none of the blocks; the message gives the reason.
    ArgumentError
        There is no such stage or block, or an argument has no such value.
    TextError
        A text is empty, not a str, too long, or has a word that no token stands for.
    DomainError
        The model computes NaN or infinity.

    Notes
    -----
    Beside the hidden states, :math:`4 (L + 1) T d` bytes, only what is asked for is copied: :math:`4 T d` bytes for
    each stage and block in float32 (for queries, keys and values T H head numbers), and as much again for one batch
    while it is cut into texts. ``embedding``, ``resid_pre`` and ``resid_post`` are views of the hidden states.
    ``rotated_query`` and ``rotated_key`` need in passing one block's attention map, :math:`4 H T^2` bytes a text.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = capture_stages(load_model(), "The cat sat on the mat.", blocks=[2])
    >>> found.at("key", 2).shape, found.at("resid_mid", 2).shape
    ((9, 5, 32), (9, 160))
    >>> mid = found.at("resid_pre", 2) + found.at("attention_output", 2)
    >>> bool(np.allclose(found.at("resid_mid", 2), mid, atol=1e-5))
    True
    >>> found.absent["position_embedding"][0]
    'nothing is added for the position: positions are rotary, relative or biases, and act in attention only'
    """
    check_capture(model, overflow, batch_tokens)
    check_count("batch_tokens", batch_tokens, 1)
    wanted = check_stages(stages)
    plan = make_plan(model, wanted, blocks, decoder=target is not None, strict=stages is not None)
    one = isinstance(text, str)
    if one and target is not None and not isinstance(target, str):
        raise ArgumentError(f"target: found {type(target).__name__} for one text, wanted one text too")
    texts = [text] if isinstance(text, str) else several_texts(text)
    splits = [words] if one else words_of_each(words, len(texts))
    if target is None:
        items = prepare_all(model, texts, splits, overflow, one=one)
        found = dict(_of_texts(model, plan, items, batch_tokens))
    else:
        targets = [target] if isinstance(target, str) else several_texts(target)
        if len(targets) != len(texts):
            raise ArgumentError(f"target: found {len(targets)} targets for {len(texts)} texts, wanted one for each")
        sources = [words if callable(words) else None] * len(texts)
        pairs = prepare_pairs(model, texts, targets, sources, splits, overflow, one=one)
        found = dict(_of_pairs(model, plan, pairs, batch_tokens))
    return found[0] if one else [found[i] for i in range(len(texts))]


# Running


def _of_texts(
    model: LanguageModel, plan: Plan, items: Sequence[Item], batch_tokens: int
) -> Iterator[tuple[int, StageActivations]]:
    lengths = [len(item.tokens.ids) for item in items]
    for batch in batches_of(lengths, batch_tokens, exact=plan.stack.pads_exactly):
        taken = _Taken(plan)
        with _listening(model, plan, taken):
            results = run_items(model, [items[i] for i in batch], attention=False, batch_tokens=sys.maxsize)
            acts = [found for _, found in results]
        shape = len(batch), max(lengths[i] for i in batch)
        taken.cut(shape, shape)
        for row, i in enumerate(batch):
            yield i, taken.of(row, acts[row], lengths[i], 0)


def _of_pairs(
    model: LanguageModel, plan: Plan, pairs: Sequence[Pair], batch_tokens: int
) -> Iterator[tuple[int, StageActivations]]:
    lengths = [pair.lengths for pair in pairs]
    exact = plan.stack.pads_exactly and find_stack(model.model, "encoder").pads_exactly
    for batch in batches_of_pairs(lengths, batch_tokens, exact=exact):
        taken = _Taken(plan)
        with _listening(model, plan, taken):
            results = list(run_pairs(model, [pairs[i] for i in batch], attention=False, batch_tokens=sys.maxsize))
        source, target = (max(lengths[i][k] for i in batch) for k in (0, 1))
        taken.cut((len(batch), target), (len(batch), source))
        for row, (i, (_, found)) in enumerate(zip(batch, results, strict=True)):
            made = taken.of(row, found.decoder, lengths[i][1], lengths[i][0])
            yield i, replace(made, target_ids=found.target_ids)


@dataclass
class _Taken:
    """What was copied during one batch."""

    plan: Plan
    raw: dict[Key, torch.Tensor] = field(default_factory=dict)
    values: dict[Key, Value] = field(default_factory=dict)

    def put(self, stage: str, block: int, tensor: torch.Tensor) -> None:
        """Copy a tensor at once, since some models go on computing in place; only the outputs that are wanted."""
        import torch

        columns = self.plan.columns.get((stage, block), (None, 0))[0]
        value = tensor.detach()
        if columns is not None:
            value = value[..., list(columns)]
        dtype = torch.float32 if value.dtype.itemsize < 4 else value.dtype
        self.raw[stage, block] = value.to(device="cpu", dtype=dtype, copy=columns is None)

    def cut(self, shape: tuple[int, int], source: tuple[int, int]) -> None:
        """Bring everything into the shape (texts, tokens, ...), heads apart."""
        for key, value in self.raw.items():
            stage = key[0]
            if stage in ROTATED:
                self.values[key] = value.transpose(1, 2).numpy()
                continue
            rows = source if stage in SOURCE_STAGES else shape
            if stage == "position_embedding":
                value = value.reshape(-1, *value.shape[-2:]).expand(rows[0], -1, -1)
            value = states_of(self.plan.stack, value, rows)
            if stage in HEAD_STAGES:
                value = value.reshape(*rows, self.plan.columns[key][1], -1)
            self.values[key] = value.numpy()
        self.raw.clear()

    def of(self, row: int, acts: LayerActivations, length: int, source: int) -> StageActivations:
        """The stages of one text of the batch."""
        plan = self.plan
        found: dict[str, dict[int, Value]] = {}
        for stage in plan.stages:
            blocks: dict[int, Value] = {}
            if stage in ENDS:
                at = {0: 0} if stage == "embedding" else {b: b - (stage == "resid_pre") for b in plan.blocks}
                blocks = {block: acts.hidden_states[layer] for block, layer in at.items()}
            else:
                end = source if stage in SOURCE_STAGES else length
                for block in (0, *plan.blocks):
                    if (stage, block) in self.values:
                        blocks[block] = sealed(self.values[stage, block][row, :end].copy())
            if blocks:
                found[stage] = blocks
        missing = [(stage, block) for stage in plan.stages for block in self._due(stage)
                   if block not in found.get(stage, {})]
        if missing:
            stage, block = missing[0]
            raise ModelError(
                f"{acts.source.model}: {stage} of block {block} was found before but did not run now; load the model "
                "again"
            )
        return StageActivations(activations=acts, values=found, absent=plan.absent)

    def _due(self, stage: str) -> list[int]:
        all_blocks = (0,) if stage in EMBEDDING_STAGES else self.plan.blocks
        return [block for block in all_blocks if block not in self.plan.absent.get(stage, {})]


@contextlib.contextmanager
def _listening(model: LanguageModel, plan: Plan, taken: _Taken) -> Iterator[None]:
    """Hooks for all that is wanted, under the model's lock; gone afterwards whatever happens."""
    net = model.model
    part = runner(net, plan.stack.side)

    def given(block: int, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        note(block, call, False, [*tensors_in(args), *tensors_in(kwargs)])

    def made(block: int, call: Call, output: Any) -> None:
        note(block, call, True, list(tensors_in(output)))

    def note(block: int, call: Call, came_out: bool, tensors: list[tuple[int | str | None, torch.Tensor]]) -> None:
        for key, tensor in tensors:
            for stage in plan.places.get((block, Place(call=call, made=came_out, key=key)), ()):
                taken.put(stage, block, tensor)

    def embedded(path: str, output: Any) -> None:
        taken.put(plan.embeddings[path], 0, output)

    with contextlib.ExitStack() as scope:
        scope.enter_context(lock_of(net))
        record = None
        if plan.rotated:
            record = scope.enter_context(recorded_attention(
                net, plan.stack, blocks=plan.rotated, reduce=lambda kind, maps: None, projections=True
            ))
        paths = list(dict.fromkeys(place.call.path for _, place in plan.places))
        scope.enter_context(watched(part, plan.stack, paths, Watch(given=given, made=made)))
        scope.enter_context(before_blocks(part, plan.stack, list(plan.embeddings), embedded))
        yield
        if record is not None:
            record.finish()
            for block in plan.rotated:
                found = record.projections[block, "self"]
                for stage, tensor in (("rotated_query", found.query), ("rotated_key", found.key)):
                    if stage in plan.stages:
                        taken.put(stage, block, tensor)
