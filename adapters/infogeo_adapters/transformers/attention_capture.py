"""Attention of a stack while the model runs by its own numerics, each map reduced as soon as it exists."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from infogeo.activations import AttentionKind
from infogeo.errors import ArgumentError, ModelError
from infogeo_adapters.transformers.attention_access import Access, attention_access
from infogeo_adapters.transformers.attention_function import Call
from infogeo_adapters.transformers.attention_ways import Recorder, recording
from infogeo_adapters.transformers.eager import row_sum_tolerance
from infogeo_adapters.transformers.locks import lock_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from infogeo_adapters.transformers.stack import Stack

Reduction = Callable[[AttentionKind, "torch.Tensor"], Any]
"""Called with what a map is and the map (B, H, Tq, Tk)."""

Key = tuple[int, Literal["self", "cross"]]
"""Block, counted from 1, and kind."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Projections:
    """Queries, keys and values as attention used them, after rotary positions and norms of single heads."""

    query: torch.Tensor
    """(B, H, Tq, width)"""
    key: torch.Tensor
    """(B, G, Tk, width), each for H / G query heads that lie side by side."""
    value: torch.Tensor
    """(B, G, Tk, width of values)"""


class AttentionRecord:
    """What :func:`recorded_attention` records; run the model once, then :meth:`finish`.

    Attributes
    ----------
    kinds : tuple of AttentionKind
        What will be recorded, by block, self before cross attention.
    projections : dict
        Queries, keys and values by block and kind, if they were asked for; those of the last pass.
    projections_absent : str
        Why there are none although they were asked for; empty if there are.
    """

    def __init__(
        self, model: PreTrainedModel, access: Access, kinds: tuple[AttentionKind, ...], reduce: Reduction | None,
        projections: bool,
    ) -> None:
        self.kinds = kinds
        self.projections: dict[Key, Projections] = {}
        self.projections_absent = "" if access.way.by_function or not projections else (
            f"{type(model).__name__} computes attention by code of its own, which gives out no queries, keys or values"
        )
        self._model, self._access, self._reduce, self._keep = model, access, reduce, projections
        self._kinds = {(k.block, k.kind): k for k in kinds}
        self._values: dict[Key, Any] = {}
        self._recorder: Recorder | None = None

    def finish(self, output: Any = None) -> list[tuple[AttentionKind, Any]]:
        """What the pass gave, and make ready for another pass.

        Parameters
        ----------
        output : optional
            What the model returned; needed for the few models, such as XLNet, whose maps are nowhere else.

        Returns
        -------
        list of (AttentionKind, value)
            By block, self before cross attention. A value is the map (B, H, Tq, Tk), float32 at least where it was
            recomputed, or what ``reduce`` made of it.

        Raises
        ------
        ModelError
            A map is missing, or is no distribution.
        """
        if self._recorder is not None:
            self._recorder.from_output(output)
        missing = [key for key in self._kinds if key not in self._values]
        if missing:
            block, kind = missing[0]
            raise ModelError(
                f"{type(self._model).__name__} gives no attention (the {kind} attention of block {block} is missing, "
                f"{len(self._kinds) - len(missing)} of {len(self._kinds)} maps were seen); capture it with "
                "attention=False"
            )
        values, self._values = self._values, {}
        return [(kind, values[key]) for key, kind in self._kinds.items()]

    def _start(self) -> None:
        self._values.clear()
        self.projections.clear()

    def _take(self, block: int, name: str, maps: torch.Tensor, call: Call | None) -> None:
        key: Key = (block, "cross" if name in self._access.cross else "self")
        kind = self._kinds.get(key)
        if kind is None or key in self._values:
            raise ModelError(
                f"block {block} of {type(self._model).__name__} computed {key[1]} attention "
                f"{'twice' if kind else 'that it did not compute when it was first run'}; load the model again"
            )
        _check_maps(self._model, kind, maps)
        self._values[key] = maps if self._reduce is None else self._reduce(kind, maps)
        if self._keep and call is not None:
            self.projections[key] = Projections(
                query=call.query.detach(), key=call.key.detach(), value=call.value.detach()
            )


@contextlib.contextmanager
def recorded_attention(
    model: PreTrainedModel,
    stack: Stack,
    *,
    blocks: Iterable[int] | None = None,
    reduce: Reduction | None = None,
    projections: bool = False,
) -> Iterator[AttentionRecord]:
    r"""Record the attention of a stack in passes made while this is open.

    The model goes on computing by transformers' sdpa function where it can, and the probabilities

    .. math:: P = \operatorname{softmax}(s \, Q K^\top + b + m)

    are formed beside it from the same queries and keys, in float32 for the half-precision formats. Models that sdpa
    does not serve (soft-capped scores, sinks) use the eager function of their own file, and models with attention code
    of their own that code: there the maps are taken from the modules that return them. Which it is was measured when
    the model was first seen (see :func:`~infogeo_adapters.transformers.attention_access.attention_access`), and each
    map's :class:`~infogeo.activations.AttentionKind` says it.

    With ``reduce`` only one block's map is alive at a time (two in number while the softmax is taken): a map is reduced
    when it exists, before the block goes on. The one exception are models whose output alone holds the maps (XLNet);
    theirs are all alive when the pass ends.

    The model's lock is held meanwhile. Calls of the model by other threads, which do not wait for it, are not recorded;
    they compute the same.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode (:func:`~infogeo_adapters.transformers.stack.evaluating`). Afterwards each of its parts has
        the attention implementation it had, also after exceptions.
    stack : Stack
        Of :func:`~infogeo_adapters.transformers.stack.find_stack`; the other stack of an encoder-decoder model may run
        too and is not recorded.
    blocks : iterable of int, optional
        Blocks to record, counted from 1; of the others no probabilities are formed. By default all that attend.
    reduce : callable, optional
        Called with the :class:`~infogeo.activations.AttentionKind` and the map (B, H, Tq, Tk), padding included; what
        it returns is kept in place of the map. Exceptions it raises end the pass.
    projections : bool
        Whether to keep queries, keys and values too.

    Yields
    ------
    AttentionRecord

    Raises
    ------
    ArgumentError
        There is no such block.
    ModelError
        The model gives no attention, or a block that was asked for has none.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> from infogeo_adapters.transformers.stack import evaluating, find_stack
    >>> import torch
    >>> net = load_model().model
    >>> with evaluating(net), recorded_attention(net, find_stack(net), blocks=[2]) as record:
    ...     output = net(torch.tensor([[5, 6, 7]]))
    >>> (kind, maps), = record.finish(output)
    >>> kind.block, kind.query_heads, kind.causal, kind.implementation, tuple(maps.shape)
    (2, 5, True, 'sdpa', (1, 5, 3, 3))
    """
    with lock_of(model):
        access = attention_access(model, stack)
        wanted = _wanted(model, stack, access, blocks)
        kinds = tuple(k for k in access.kinds if k.block in wanted)
        record = AttentionRecord(model, access, kinds, reduce, projections)
        with recording(model, stack, access.way, record._take, blocks=wanted) as recorder:
            recorder.started = record._start
            record._recorder = recorder
            yield record


def _wanted(
    model: PreTrainedModel, stack: Stack, access: Access, blocks: Iterable[int] | None
) -> frozenset[int]:
    having = {k.block for k in access.kinds}
    if blocks is None:
        return frozenset(having)
    wanted = list(blocks)
    for block in wanted:
        if isinstance(block, bool) or not isinstance(block, SupportsIndex) or not 1 <= index(block) <= stack.depth:
            raise ArgumentError(f"blocks: found {block!r}, wanted whole numbers from 1 to {stack.depth}")
        if block not in having:
            raise ModelError(
                f"block {block} of {type(model).__name__} has no attention; blocks that have it: {sorted(having)}"
            )
    return frozenset(map(index, wanted))


def _check_maps(model: PreTrainedModel, kind: AttentionKind, maps: torch.Tensor) -> None:
    """Raise unless the map has the heads it had when the model was first seen and its rows are distributions, or less.

    Rows may sum to less: GPT-OSS leaves out what its heads give to the sink.
    """
    name = type(model).__name__
    if maps.ndim != 4 or maps.shape[1] != kind.query_heads:
        raise ModelError(
            f"the {kind.kind} attention of block {kind.block} of {name} has the shape {tuple(maps.shape)}, wanted "
            f"(texts, {kind.query_heads}, queries, keys); capture it with attention=False"
        )
    least, most = float(maps.min()), float(maps.sum(dim=-1).max())
    if not (least >= 0 and most <= 1 + row_sum_tolerance(model)):
        raise ModelError(
            f"the attention of {name} is no distribution: block {kind.block} has weights from {least:.3g} and rows "
            f"that sum to up to {most:.6g}, wanted no weight below zero and no sum above one; capture it with "
            "attention=False"
        )
