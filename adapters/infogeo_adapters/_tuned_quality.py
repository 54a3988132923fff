"""How good a lens is, layer by layer, on texts that had no part in fitting it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_count, check_memory, check_number, random_generator, sealed
from infogeo.errors import ArgumentError
from infogeo.results import Result, Source
from infogeo_adapters._tuned_result import TunedLens
from infogeo_adapters._tuned_streams import (
    Reader,
    Row,
    Stream,
    Text,
    batches,
    checked_texts,
    hash_of_texts,
    reader_of,
    rows_of,
    run_stream,
)
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.readout import MEMORY, Projection
from infogeo_adapters.transformers.stack import evaluating

MOST_BLOCKS, LEAST_BLOCKS = 64, 8
"""Blocks of whole texts whose mean predictions are kept apart; with fewer there is no interval worth the name."""
BYTES = 40
"""For each token and outcome of a chunk: five numbers in double precision."""
QUANTITIES = ("cross_entropy", "kl_from_final", "bias")


@dataclass(frozen=True, eq=False, kw_only=True)
class LensQuality(Result):
    """How near the predictions of the plain and of the tuned lens come to the truth and to the model, by layer."""

    layers: tuple[int, ...]
    """Numbers of the K layers."""
    lenses: tuple[str, ...]
    """``logit_lens``, and ``tuned_lens`` if there was one; the first axis of all values, of length M."""
    cross_entropy: FloatArray
    """(M, K) mean of -log q(true token) in nats; its exponential is the perplexity."""
    cross_entropy_interval: FloatArray
    """(M, K, 2)"""
    kl_from_final: FloatArray
    """(M, K) mean KL(p || q) in nats with p the final prediction and q the lens, what a tuned lens is trained to lower
    (``EntropyProfile.kl_to_final`` is the other direction)."""
    kl_from_final_interval: FloatArray
    bias: FloatArray
    """(M, K) KL(p || q) in nats with p the mean final prediction and q the mean prediction of the lens."""
    bias_interval: FloatArray
    """(M, K, 2) knows nothing of ``bias_excess``."""
    bias_excess: FloatArray
    """(M, K) how much of ``bias`` is due to the mean over few tokens, which is rougher than that over all text: the
    estimate of the jackknife over the blocks. It falls as one over the number of tokens."""
    gain: Mapping[str, FloatArray]
    """For each of the three quantities (K,), the plain lens less the tuned one: positive where the tuned is better.
    Empty without a tuned lens."""
    gain_interval: Mapping[str, FloatArray]
    """(K, 2), from the same resamples for both lenses."""
    level: float
    """Coverage of the intervals."""
    predicts: Literal["next", "itself"]
    """Which token is the true one: the next (causal) or the token itself (masked models, which see it)."""
    n_texts: int
    n_blocks: int
    """Blocks of whole texts that were resampled for the bias: the texts themselves if they are few."""
    n_tokens: int
    """Tokens in ``kl_from_final`` and ``bias``."""
    n_predicted: int
    """Tokens in ``cross_entropy``: those whose true token is known and was not added by the tokenizer."""
    source: Source

    @property
    def perplexity(self) -> FloatArray:
        """(M, K) the exponential of the cross-entropy."""
        return np.asarray(np.exp(self.cross_entropy))

    @property
    def perplexity_interval(self) -> FloatArray:
        """(M, K, 2) the exponentials of the ends."""
        return np.asarray(np.exp(self.cross_entropy_interval))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ["layer", "lens"]
        values = {name: (getattr(self, name), getattr(self, f"{name}_interval"))
                  for name in (*QUANTITIES[:1], "perplexity", *QUANTITIES[1:])}
        for name in values:
            columns += [name, f"{name}_low", f"{name}_high"]
        table = [
            (layer, lens, *(float(v) for value, ends in values.values() for v in (value[m, k], *ends[m, k])))
            for k, layer in enumerate(self.layers) for m, lens in enumerate(self.lenses)
        ]
        return tuple(columns), table

    def summary(self) -> str:
        return (
            f"quality of {' and '.join(self.lenses)} of {self.source.model} at {len(self.layers)} layers, "
            f"{self.n_tokens} tokens of {self.n_texts} texts"
        )


def lens_quality(
    model: LanguageModel,
    texts: Sequence[Text],
    *,
    lens: TunedLens | None = None,
    layers: Iterable[int] | None = None,
    window: int | None = None,
    batch_tokens: int = 2048,
    resamples: int = 1000,
    level: float = 0.95,
    rng: Any = 0,
    memory: float = MEMORY,
    sums_memory: float = 1e9,
) -> LensQuality:
    r"""Cross-entropy, divergence from the final prediction, and bias of a lens at every layer, with intervals.

    With p the model's own prediction at a token, q that of the lens, v the true token, means over tokens,

    .. math:: \mathrm{mean}(-\log q_l(v)), \qquad \mathrm{mean}\,\mathrm{KL}(p \,\|\, q_l), \qquad
              \mathrm{KL}(\mathrm{mean}\,p \,\|\, \mathrm{mean}\,q_l)

    The last is the bias [1]_: a lens whose predictions are wrong in one direction at all tokens, as those of the plain
    logit lens are, has one however uncertain single predictions are.

    Intervals are percentiles of a bootstrap over texts, since tokens of one text are not independent. For the bias the
    mean predictions of at most 64 blocks of whole texts are kept, and its linear part (the delta method) is resampled
    over these; with a plain bootstrap the noise of the resample itself would add to the bias.

    Parameters
    ----------
    model : LanguageModel
        A language model with a head. The true token is the next one; in a masked model, in which nothing is masked, it
        is the token itself; in a decoder of two stacks the label of the place.
    texts : sequence of str
        At least two, none of which was used to fit the lens; for an encoder-decoder model pairs (source, target).
    lens : TunedLens, optional
        Looked at beside the plain lens.
    layers : iterable of int, optional
        By default those of the tuned lens, or all, and the last layer.
    window : int, optional
        As in :func:`~infogeo_adapters.fit_tuned_lens`.
    batch_tokens : int
        Most tokens in one forward pass, padding counted.
    resamples : int
        Of the bootstrap.
    level : float
        Coverage of the intervals.
    rng : None, int or Generator
        Decides the resamples and the blocks.
    memory : float
        Bytes for the logits of one chunk of tokens and their work space.
    sums_memory : float
        Bytes for the sums of predictions: 8 for each outcome, block, layer and lens. The number of blocks is as large
        as it allows.

    Returns
    -------
    LensQuality

    Raises
    ------
    TextError
        Fewer than two texts, or one that is empty.
    ArgumentError
        An argument has no such value, or ``sums_memory`` is too small for 8 blocks.
    ModelError
        The lens was fitted to another model, or the model cannot be read out.
    DomainError
        A layer holds NaN or infinity.

    References
    ----------
    .. [1] N. Belrose et al., "Eliciting latent predictions from transformers with the tuned lens", arXiv 2303.08112,
       2023, section 2 (bias of the logit lens) and section 3.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = lens_quality(load_model(), ["The dog ran home.", "The cat sat on the mat."])
    >>> found.lenses, found.kl_from_final.shape, float(found.kl_from_final[0, -1])
    (('logit_lens',), (1, 7), 0.0)
    """
    reader = reader_of(model)
    if lens is not None:
        if not isinstance(lens, TunedLens):
            raise ArgumentError(f"lens: found {type(lens).__name__}, wanted a TunedLens")
        lens.check(model)
    chosen = _layers(reader, lens, layers)
    resamples = check_count("resamples", resamples, 1)
    batch_tokens = check_count("batch_tokens", batch_tokens, 2)
    level = check_number("level", level)
    if not 0 < level < 1:
        raise ArgumentError(f"level: found {level}, wanted a number between 0 and 1")
    memory, sums_memory = check_memory("memory", memory), check_memory("sums_memory", sums_memory)
    generator = random_generator(rng)
    given = checked_texts(reader, texts)
    rows, length = rows_of(reader, given, window)
    sums = _Sums(reader, len(given), chosen, lens, generator, memory, sums_memory)
    sums.add_all(rows, batch_tokens)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    source = replace(model.current_source(), text_hash=hash_of_texts(given), seed=seed).with_options(
        window=length, resamples=resamples, lens_text_hash=lens.source.text_hash if lens else None
    )
    return _result(sums, reader, generator, resamples, level, source)


def _layers(reader: Reader, lens: TunedLens | None, layers: Iterable[int] | None) -> tuple[int, ...]:
    depth = reader.stack.depth
    every = tuple(range(depth + 1)) if lens is None else (*lens.layers, depth)
    try:
        chosen = every if layers is None else tuple(sorted({check_count("layers", layer) for layer in layers}))
    except TypeError as error:
        raise ArgumentError(f"layers: found {layers!r}, wanted whole numbers, such as range({depth + 1})") from error
    if not chosen or not set(chosen) <= set(every):
        whose = "that the tuned lens has translators for" if lens is not None else "of the model"
        raise ArgumentError(f"layers: found {chosen}, wanted some of {', '.join(map(str, every))}, the layers {whose}")
    return chosen


class _Sums:
    """What is added up over tokens: by text for cross-entropy and divergence, by block of texts for predictions."""

    def __init__(
        self, reader: Reader, n_texts: int, layers: tuple[int, ...], lens: TunedLens | None,
        generator: np.random.Generator, memory: float, sums_memory: float,
    ) -> None:
        self.reader, self.layers, self.lens = reader, layers, lens
        self.memory, self.sums_memory = memory, sums_memory
        self.order = generator.permutation(n_texts)
        shape = (1 if lens is None else 2, len(layers), n_texts)
        self.cross_entropy, self.kl = np.zeros(shape), np.zeros(shape)
        self.predicted, self.tokens = np.zeros(n_texts), np.zeros(n_texts)
        self.blocks: IntArray = np.zeros(0, dtype=np.int64)
        """(n_texts,) block of each text, known once the number of outcomes is."""
        self.final: Any = None
        """(B, V) sums of the final predictions, and those of the lenses (M, K, B, V), tensors on the host."""
        self.marginals: Any = None

    def add_all(self, rows: Sequence[Row], batch_tokens: int) -> None:
        """Run all rows and add up what is seen."""
        net = self.reader.model.model
        for batch in batches(self.reader, rows, batch_tokens):
            with lock_of(net), evaluating(net), self.reader.readout.session() as project:
                stream = run_stream(self.reader, batch)
                self.tokens += np.bincount(stream.texts, minlength=len(self.tokens))
                known = stream.truth.cpu().numpy() >= 0
                self.predicted += np.bincount(stream.texts[known], minlength=len(self.tokens))
                for where in self._chunks(project, stream):
                    self._add(project, stream, where)

    def _chunks(self, project: Projection, stream: Stream) -> Iterator[slice]:
        if self.final is None:
            self._make_room(int(project(stream.states[-1][:1]).shape[1]))
        size = max(1, int(self.memory // (BYTES * self.final.shape[1])))
        for start in range(0, len(stream.texts), size):
            yield slice(start, min(start + size, len(stream.texts)))

    def _make_room(self, outcomes: int) -> None:
        import torch

        m, k, n = self.kl.shape
        each = 8 * outcomes * (m * k + 1)
        blocks, least = min(n, MOST_BLOCKS, int(self.sums_memory // each)), min(n, LEAST_BLOCKS)
        if blocks < least:
            raise ArgumentError(
                f"sums_memory: found {self.sums_memory:.3g} bytes, wanted at least {least * each:.3g} for the mean "
                f"predictions of {outcomes} outcomes at {k} layers; raise it, or look at fewer layers at a time"
            )
        self.blocks = np.empty(n, dtype=np.int64)
        self.blocks[self.order] = np.arange(n) % blocks
        device = self.reader.model.model.device
        self.final = torch.zeros(blocks, outcomes, dtype=torch.float64, device=device)
        self.marginals = torch.zeros(m, k, blocks, outcomes, dtype=torch.float64, device=device)

    def _add(self, project: Projection, stream: Stream, where: slice) -> None:
        import torch

        texts = stream.texts[where]
        block = torch.from_numpy(self.blocks[texts]).to(stream.truth.device)
        truth = stream.truth[where]
        known = (truth >= 0).cpu().numpy()
        log_p = torch.log_softmax(project(stream.states[-1][where]).double(), dim=-1)
        p = log_p.exp()
        self.final.index_add_(0, block, p)
        for k, layer in enumerate(self.layers):
            states = stream.states[layer][where]
            for m in range(len(self.kl)):
                moved = states if m == 0 or self.lens is None else self.lens.translate(layer, states)
                log_q = torch.log_softmax(project(moved).double(), dim=-1)
                surprise = -log_q.gather(1, truth.clamp_min(0)[:, None])[:, 0].cpu().numpy()
                self.cross_entropy[m, k] += np.bincount(
                    texts, weights=np.where(known, surprise, 0.0), minlength=len(self.tokens)
                )
                kl = ((log_p - log_q).mul_(p)).sum(dim=-1).cpu().numpy()
                self.kl[m, k] += np.bincount(texts, weights=kl, minlength=len(self.tokens))
                self.marginals[m, k].index_add_(0, block, log_q.exp_())


def _result(
    sums: _Sums, reader: Reader, generator: np.random.Generator, resamples: int, level: float, source: Source
) -> LensQuality:
    """Means, and their intervals; the gain of the tuned lens is a third row beside plain and tuned in between."""
    drawn = functools.partial(_intervals, resamples=resamples, level=level, generator=generator)
    values: dict[str, FloatArray] = {}
    ends: dict[str, FloatArray] = {}
    for name, table, counts in (
        ("cross_entropy", sums.cross_entropy, sums.predicted), ("kl_from_final", sums.kl, sums.tokens)
    ):
        shown = _with_gain(table)
        values[name] = shown.sum(axis=-1) / counts.sum()
        ends[name] = drawn(shown, counts)
    in_block: FloatArray = np.zeros(len(sums.final))
    np.add.at(in_block, sums.blocks, sums.tokens)
    bias, parts, excess = _linear_bias(sums, in_block)
    values["bias"] = _with_gain(bias[..., None])[..., 0]
    around: FloatArray = drawn(_with_gain(parts), in_block)
    ends["bias"] = values["bias"][..., None] + around
    m = len(sums.kl)
    first = {name: sealed(np.ascontiguousarray(value[:m])) for name, value in values.items()}
    first_ends = {f"{name}_interval": sealed(np.ascontiguousarray(value[:m])) for name, value in ends.items()}
    tuned = m == 2
    return LensQuality(
        layers=sums.layers, lenses=("logit_lens", "tuned_lens")[:m], **first, **first_ends, bias_excess=sealed(excess),
        gain={name: sealed(value[2].copy()) for name, value in values.items()} if tuned else {},
        gain_interval={name: sealed(value[2].copy()) for name, value in ends.items()} if tuned else {},
        level=level, predicts=reader.predicts, n_texts=len(sums.tokens), n_blocks=len(sums.final),
        n_tokens=int(sums.tokens.sum()), n_predicted=int(sums.predicted.sum()), source=source,
    )


def _with_gain(table: FloatArray) -> FloatArray:
    """(M, ...) and, if M is two, their difference as a third."""
    return table if len(table) == 1 else np.concatenate([table, table[:1] - table[1:]])


def _linear_bias(sums: _Sums, counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The bias (M, K), its influences by block (M, K, B), which sum to zero, and its excess by the jackknife.

    The latter two are NaN where the bias is infinite.
    """
    from scipy.special import rel_entr

    total = counts.sum()
    final = sums.final.cpu().numpy()
    p = final.sum(axis=0) / total
    bias = np.empty(sums.kl.shape[:2])
    parts, excess = np.empty((*bias.shape, len(final))), np.empty(bias.shape)
    rest = (final.sum(axis=0) - final) / (total - counts)[:, None]
    for m, k in np.ndindex(*bias.shape):
        blocks = sums.marginals[m, k].cpu().numpy()
        q = blocks.sum(axis=0) / total
        if ((q == 0) & (p > 0)).any():
            bias[m, k], parts[m, k], excess[m, k] = np.inf, np.nan, np.nan
            continue
        seen = p > 0
        slope, ratio = np.log(p[seen] / q[seen]), p[seen] / q[seen]
        bias[m, k] = p[seen] @ slope
        parts[m, k] = final[:, seen] @ slope - blocks[:, seen] @ ratio - counts * (bias[m, k] - 1)
        without = rel_entr(rest, (blocks.sum(axis=0) - blocks) / (total - counts)[:, None]).sum(axis=1)
        excess[m, k] = (len(final) - 1) * (without.mean() - bias[m, k])
    return bias, parts, excess


def _intervals(
    values: FloatArray, counts: FloatArray, *, resamples: int, level: float, generator: np.random.Generator
) -> FloatArray:
    """Percentile intervals (..., 2) of sums of values (..., N) over sums of counts (N,), units drawn with replacement.

    NaN if fewer than two units have a count.
    """
    kept = counts > 0
    n = int(kept.sum())
    if n < 2:
        return np.full((*values.shape[:-1], 2), np.nan)
    table, weights = values[..., kept].reshape(-1, n), counts[kept]
    ratios = np.empty((resamples, len(table)))
    step = max(1, int(MEMORY // (16 * n)))
    for start in range(0, resamples, step):
        drawn = generator.multinomial(n, np.full(n, 1.0 / n), size=min(step, resamples - start))
        ratios[start : start + step] = drawn @ table.T / (drawn @ weights)[:, None]
    tail = (1.0 - level) / 2.0
    found = np.quantile(ratios, [tail, 1.0 - tail], axis=0)
    return np.asarray(np.moveaxis(found, 0, -1).reshape(*values.shape[:-1], 2))
