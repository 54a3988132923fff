"""What a model would predict at each layer, stage and token of a text, and how sure it would be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    as_int_array,
    check_count,
    check_number,
    check_shape,
    sealed,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source

STATES = ("embedding", "resid_mid", "resid_cross", "resid_post")
"""Stages that are states of the residual stream, in the order they occur."""
BRANCHES = ("attention_output", "cross_attention_output", "feed_forward_output")
"""Stages that are what a part of a block adds to the stream, or to what its norm is given."""

EntropyUnit = Literal["nats", "bits", "normalized"]

_PLACE = {
    "embedding": 1.0, "resid_post": 1.0, "feed_forward_output": 1.0, "attention_output": 0.5, "resid_mid": 0.5,
    "cross_attention_output": 0.75, "resid_cross": 0.75,
}
"""How far through its block a stage stands."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EntropyProfile(Result):
    r"""The prediction read out at each layer, stage and token of one text (logit lens).

    A row is a place where the model was read: the embedding, or a stage of a block. With p the prediction there and q
    the final one, in nats:

    .. math:: H = -\sum_v p_v \log p_v, \qquad \mathrm{KL}(p \| q) = \sum_v p_v \log \frac{p_v}{q_v}, \qquad
              d(p, p') = 2 \arccos \sum_v \sqrt{p_v p'_v}

    The Fisher–Rao distance d from state to state of the residual stream adds up to the length of the path that the
    prediction takes on the simplex; the geodesic from the first to the last state is never longer. Made by
    :func:`infogeo_adapters.logit_lens`. Divergences are sums of rounded terms, so those of equal predictions may lie
    below zero by some 1e-6.
    """

    row_layers: IntArray
    """(R,) layer of each row: 0 for the embedding, l for a stage of block l."""
    row_stages: tuple[str, ...]
    """(R) where in its block: ``embedding``, ``attention_output``, ``resid_mid``, ``feed_forward_output``,
    ``resid_post``, in decoders with cross attention also ``cross_attention_output`` and ``resid_cross``."""
    entropy: FloatArray
    """(R, T) Shannon entropy in nats."""
    renyi: Mapping[float, FloatArray] = field(default_factory=dict)
    """(R, T) Rényi entropy in nats, by order."""
    kl_to_final: FloatArray
    """(R, T) divergence of the row's prediction from the final one; NaN, as all comparisons, if not asked for, and
    infinite where the final one rules out what the row's does not."""
    kl_to_next: FloatArray
    """(R, T) divergence of the row's prediction from that of the next state of the stream; NaN where there is none."""
    cross_entropy: FloatArray
    """(R, T) -log p of the true token in nats; NaN where there is none among the outcomes, infinite where it is ruled
    out."""
    rank: IntArray
    """(R, T) place of the true token among the outcomes, 1 where none is more probable; 0 where it is no outcome."""
    step_length: FloatArray
    """(R, T) Fisher–Rao distance from the state of the stream before; NaN in the first row and in branches."""
    geodesic_length: FloatArray
    """(T,) Fisher–Rao distance from the first state of the stream among the rows to the last; NaN without states."""
    top_ids: IntArray
    """(R, T, k) the most probable outcomes, best first."""
    top_probabilities: FloatArray
    """(R, T, k) their probabilities."""
    outcome_names: Mapping[int, str]
    """Names of the outcomes in ``top_ids``."""
    top_p: float | None = None
    set_size: IntArray | None = None
    """(R, T) fewest outcomes that together have at least probability ``top_p``; None if not asked for."""
    tokens: tuple[str, ...]
    token_words: IntArray
    """(T,) index of the word a token belongs to, -1 for none."""
    words: tuple[str, ...]
    target_ids: IntArray
    """(T,) the true token of each prediction, -1 where there is none."""
    predicts: Literal["next", "itself"]
    """Whether the prediction at a token is of the next token (causal) or of the token itself (masked)."""
    n_outcomes: int
    """Size of the vocabulary read out; the entropy is at most its logarithm."""
    n_layers: int
    """Blocks of the model."""
    source: Source

    def __post_init__(self) -> None:
        self._check_scalars()
        t, r = len(self.tokens), len(self.row_stages)
        shapes: dict[str, tuple[int | None, ...]] = {
            "row_layers": (r,), "entropy": (r, t), "kl_to_final": (r, t), "kl_to_next": (r, t),
            "cross_entropy": (r, t), "rank": (r, t), "step_length": (r, t), "geodesic_length": (t,),
            "top_ids": (r, t, None), "top_probabilities": (r, t, None), "token_words": (t,), "target_ids": (t,),
        }
        if self.set_size is not None:
            shapes["set_size"] = (r, t)
        whole = {"row_layers", "rank", "top_ids", "token_words", "target_ids", "set_size"}
        sparse = {"kl_to_final", "kl_to_next", "cross_entropy", "step_length", "geodesic_length"}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if name in whole:
                array: Any = as_int_array(name, value)
            else:
                array = as_float_array(name, value, finite=name not in sparse)
            check_shape(name, array, shape)
            object.__setattr__(self, name, sealed(array))
        orders = {}
        for order, value in self.renyi.items():
            array = as_float_array(f"renyi[{order}]", value)
            check_shape(f"renyi[{order}]", array, (r, t))
            orders[float(order)] = sealed(array)
        object.__setattr__(self, "renyi", orders)
        unknown = sorted({*self.row_stages} - {*STATES, *BRANCHES})
        if unknown:
            raise ArgumentError(f"row_stages: found {unknown[0]!r}, wanted one of {', '.join((*STATES, *BRANCHES))}")
        self._check_numbers()
        most = np.log(self.n_outcomes) + 1e-5
        for name, array in (("entropy", self.entropy), *((f"renyi[{a:g}]", h) for a, h in orders.items())):
            if (array < -1e-5).any() or (array > most).any():
                raise DomainError(f"{name}: values must lie between 0 and log({self.n_outcomes})")

    def _check_scalars(self) -> None:
        """Raise unless the fields that are no arrays have values that there are."""
        for name in ("row_stages", "tokens", "words"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ArgumentError(f"{name}: found {type(value).__name__}, wanted a tuple of str")
            object.__setattr__(self, name, tuple(value))
        check_count("n_outcomes", self.n_outcomes, 1)
        check_count("n_layers", self.n_layers, 0)
        if self.predicts not in ("next", "itself"):
            raise ArgumentError(f"predicts: found {self.predicts!r}, wanted 'next' or 'itself'")
        if (self.top_p is None) != (self.set_size is None):
            raise ArgumentError("top_p and set_size belong together; give both or neither")
        for order in self.renyi:
            if check_number("renyi", order) < 0:
                raise ArgumentError(f"renyi: found the order {order}, wanted 0 to infinity")

    def _check_numbers(self) -> None:
        """Raise unless layers, words, outcomes and probabilities are such as there are."""
        if self.top_ids.shape != self.top_probabilities.shape or not self.top_ids.shape[-1]:
            raise ShapeError(
                f"top_ids and top_probabilities: found shapes {self.top_ids.shape} and {self.top_probabilities.shape}, "
                "wanted the same, (R, T, k) with k at least 1"
            )
        for name, most in (("row_layers", self.n_layers), ("rank", self.n_outcomes), ("top_probabilities", 1 + 1e-5)):
            values = getattr(self, name)
            if ((values < 0) | (values > most)).any():
                raise DomainError(f"{name}: values must lie between 0 and {most:g}")
        missing = sorted({*self.top_ids.ravel().tolist()} - {*self.outcome_names})
        if missing:
            raise ArgumentError(f"outcome_names: outcome {missing[0]} of top_ids has no name; give one for each")
        owners = {*self.token_words.tolist()} - {-1}
        if owners != {*range(len(self.words))}:
            raise DomainError(
                f"token_words: wanted -1 and, each at least once, the numbers of the {len(self.words)} words"
            )

    # Views

    @property
    def top_tokens(self) -> tuple[tuple[str, ...], ...]:
        """(R)(T) the most probable outcome of each row and token, by name."""
        return tuple(tuple(self.outcome_names[i] for i in row) for row in self.top_ids[..., 0].tolist())

    @property
    def top_probability(self) -> FloatArray:
        """(R, T) probability of the most probable outcome."""
        return np.asarray(self.top_probabilities[..., 0])

    @property
    def path_length(self) -> FloatArray:
        """(T,) length of the path that the prediction takes through the states of the stream.

        NaN if not all of its steps are known, or no row is a state.
        """
        steps = self.step_length[[i for i, stage in enumerate(self.row_stages) if stage in STATES]]
        return np.asarray(steps[1:].sum(axis=0) if len(steps) else np.full(len(self.tokens), np.nan))

    @property
    def row_labels(self) -> tuple[str, ...]:
        """(R) short names of the rows, such as ``embedding`` and ``3 resid_mid``."""
        return tuple(
            stage if stage == "embedding" else f"{layer} {stage}"
            for layer, stage in zip(self.row_layers.tolist(), self.row_stages, strict=True)
        )

    def in_units(self, unit: EntropyUnit) -> FloatArray:
        """(R, T) entropies in nats, bits, or as shares of the largest possible, log of ``n_outcomes``."""
        factors = {"nats": 1.0, "bits": 1 / np.log(2.0), "normalized": 1 / max(np.log(self.n_outcomes), 1e-300)}
        if unit not in factors:
            raise ArgumentError(f"unit: found {unit!r}, wanted one of {', '.join(factors)}")
        return np.asarray(self.entropy * factors[unit])

    def at_stage(self, stage: str) -> EntropyProfile:
        """The rows of one stage only; those of ``resid_post`` begin with the embedding, so that row l is layer l.

        What joins a row to a state of the stream that is left out is NaN: its ``step_length`` from the one before, its
        ``kl_to_next``, ``geodesic_length`` from the first to the last. For lengths from layer to layer read with
        ``stages="resid_post"`` alone.
        """
        wanted = {stage, "embedding"} if stage == "resid_post" else {stage}
        if stage not in self.row_stages:
            raise ArgumentError(
                f"stage: found {stage!r}, but this profile was read at {', '.join(dict.fromkeys(self.row_stages))}; "
                "ask for it with logit_lens(..., stages=...)"
            )
        return self._rows([i for i, s in enumerate(self.row_stages) if s in wanted])

    def states(self) -> EntropyProfile:
        """The rows that are states of the residual stream, in order."""
        return self._rows([i for i, s in enumerate(self.row_stages) if s in STATES])

    def _rows(self, kept: list[int]) -> EntropyProfile:
        states = [i for i, stage in enumerate(self.row_stages) if stage in STATES]
        step, ahead, geodesic = self.step_length.copy(), self.kl_to_next.copy(), self.geodesic_length
        for before, after in itertools.pairwise(states):
            if before not in kept:
                step[after] = np.nan
            if after not in kept:
                ahead[before] = np.nan
        if not {*states[:1], *states[-1:]} <= {*kept}:
            geodesic = np.full_like(geodesic, np.nan)
        return replace(
            self, step_length=step[kept], kl_to_next=ahead[kept], geodesic_length=geodesic,
            row_layers=self.row_layers[kept], row_stages=tuple(self.row_stages[i] for i in kept),
            renyi={order: h[kept] for order, h in self.renyi.items()},
            set_size=None if self.set_size is None else self.set_size[kept],
            **{name: getattr(self, name)[kept] for name in (
                "entropy", "kl_to_final", "cross_entropy", "rank", "top_ids", "top_probabilities",
            )},
        )

    def delta(self) -> FloatArray:
        """(S - 1, T) change of entropy from each of the S states of the stream to the next, in nats.

        Positive where the prediction is expanded, negative where it is pruned [1]_.

        References
        ----------
        .. [1] R. Ali, F. Caso, C. Irwin, P. Liò, "Entropy-Lens", arXiv 2502.16570, version 3.
        """
        return np.asarray(np.diff(self.states().entropy, axis=0))

    def relative_depth(self) -> FloatArray:
        """(R,) how far through the model each row stands, 0 for the embedding and 1 for the last block's output."""
        place = np.asarray([_PLACE[stage] for stage in self.row_stages])
        depth = (self.row_layers - 1 + place) / max(self.n_layers, 1)
        return np.asarray(np.where(self.row_layers == 0, 0.0, depth))

    def windows(self, count: int) -> FloatArray:
        """(R, count) entropy averaged over runs of consecutive tokens of (nearly) equal length, in nats."""
        check_count("count", count, 1)
        if count > len(self.tokens):
            raise ShapeError(f"count: found {count} windows for {len(self.tokens)} tokens, wanted no more than tokens")
        parts = np.array_split(self.entropy, count, axis=1)
        return np.stack([part.mean(axis=1) for part in parts], axis=1)

    def last_tokens(self) -> IntArray:
        """(n,) the last token of each word, whose prediction is the first made with the whole word read."""
        places = [np.flatnonzero(self.token_words == w)[-1] for w in range(len(self.words))]
        return np.asarray(places, dtype=np.int64)

    def word_entropy(self) -> FloatArray:
        """(R, n) entropy at each word's last token, in nats."""
        return np.asarray(self.entropy[:, self.last_tokens()])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        more: dict[str, NDArray[Any]] = {f"renyi_{_short(order)}": h for order, h in self.renyi.items()}
        if self.set_size is not None:
            more[f"set_size_{_short(self.top_p or 0.0)}"] = self.set_size
        columns = (
            "layer", "stage", "position", "token", "entropy", *more, "kl_to_final", "kl_to_next", "cross_entropy",
            "rank", "step_length", "top_token", "top_probability",
        )
        tops = self.top_tokens
        arrays = [self.entropy, *more.values(), self.kl_to_final, self.kl_to_next, self.cross_entropy, self.rank,
                  self.step_length]
        lists = [array.tolist() for array in arrays]
        best = self.top_probability.tolist()
        table = [
            (layer, stage, t, self.tokens[t], *(values[r][t] for values in lists), tops[r][t], best[r][t])
            for r, (layer, stage) in enumerate(zip(self.row_layers.tolist(), self.row_stages, strict=True))
            for t in range(len(self.tokens))
        ]
        return columns, table

    def by_row(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """A table with one line for each row, means over tokens: column names and lines."""
        columns = ("layer", "stage", "entropy", "entropy_p10", "entropy_p90", "kl_to_final", "cross_entropy",
                   "rank_1_share", "step_length")
        def mean(values: FloatArray) -> float | None:
            known = values[~np.isnan(values)]
            return float(known.mean()) if known.size else None

        lines = [
            (layer, stage, float(self.entropy[r].mean()), float(np.quantile(self.entropy[r], 0.1)),
             float(np.quantile(self.entropy[r], 0.9)), mean(self.kl_to_final[r]), mean(self.cross_entropy[r]),
             mean(np.where(self.rank[r] > 0, self.rank[r] == 1, np.nan)), mean(self.step_length[r]))
            for r, (layer, stage) in enumerate(zip(self.row_layers.tolist(), self.row_stages, strict=True))
        ]
        return columns, lines

    def summary(self) -> str:
        size = f"{len(self.tokens)} tokens at {len(self.row_stages)} places in {self.n_layers} blocks"
        return f"EntropyProfile of {size}, {self.n_outcomes} outcomes, in nats ({self.source.model})"


def _short(number: float) -> str:
    """A number in a column's name: as short as can be without becoming another."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
