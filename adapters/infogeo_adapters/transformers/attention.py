"""Attention between words: one head, the head average, rollout and flow, as affinities.

Everything is computed between tokens, special tokens among them, and pooled to words at the end by one rule:
the mean over the tokens of the word that looks, the sum over the tokens of the word looked at (Clark et al.
2019). Weight that goes to special tokens is left out, never spread over the words.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from infogeo._checks import FloatArray
from infogeo.activations import AffinityMatrix, LayerActivations
from infogeo.errors import ArgumentError, DomainError
from infogeo_adapters.transformers.position import position_correlations, relative_to_totals

ROW_SUM_TOLERANCE = 0.02
"""How far above one a row of attention may sum: bfloat16 probabilities come that close, log-sum-exps do not."""

FLOW_SCALE = 2**30
"""Capacities are counted in units of 1/FLOW_SCALE: the solver takes 32-bit integers, and a row sums to one."""

FLOW_SECONDS_PER_EDGE = 1e-7
"""Time of one maximum flow per edge of its graph, measured on one core (rounded up)."""

Band = tuple[int, int]


def single_head(acts: LayerActivations, block: int, head: int) -> AffinityMatrix:
    r"""Attention of one head between words.

    .. math:: a_{ij} = \frac{1}{|i|} \sum_{s \in i} \sum_{t \in j} A_{st}

    with :math:`A` the attention probabilities between tokens and :math:`s \in i` the tokens of word i.

    Parameters
    ----------
    acts : LayerActivations
        Captured with attention.
    block, head : int
        Both counted from 1.

    Returns
    -------
    AffinityMatrix
        Directed, (n, n); a row and its entry of ``outside`` sum to one (less where a model drops weight on a sink).

    Raises
    ------
    ArgumentError
        If attention was not captured, or there is no such block or head.

    References
    ----------
    .. [1] K. Clark, U. Khandelwal, O. Levy, C. Manning, "What does BERT look at? An analysis of BERT's
       attention", BlackboxNLP 2019.

    Examples
    --------
    >>> from infogeo_adapters import capture_activations, load_model
    >>> acts = capture_activations(load_model(), "The dog ran home.")
    >>> a = single_head(acts, 2, 1)
    >>> a.name
    'attention of block 2, head 1'
    >>> bool(np.allclose(a.values.sum(axis=1) + a.outside, 1.0, atol=1e-5))
    True
    """
    maps = _attention(acts)
    row = _block_row(acts, block)
    if not 1 <= head <= maps.shape[1]:
        raise ArgumentError(f"head {head} does not exist: block {block} has heads 1 to {maps.shape[1]}")
    values, outside = _pool(acts, maps[row, head - 1])
    return AffinityMatrix(
        values=values, words=acts.words, name=f"attention of block {block}, head {head}", directed=True,
        layer=block, head=head, outside=outside,
        source=acts.source.with_options(affinity="single_head", block=block, head=head),
    )


def head_average(acts: LayerActivations, block: int | None = None) -> AffinityMatrix:
    r"""Mean of the attention of all heads, of one block or of all blocks.

    .. math:: \bar A = \frac{1}{H} \sum_h A^{(l, h)} \quad\text{or}\quad \frac{1}{LH} \sum_{l, h} A^{(l, h)}

    pooled to words as in :func:`single_head`.

    Parameters
    ----------
    acts : LayerActivations
        Captured with attention.
    block : int, optional
        Counted from 1; None averages all blocks that have attention.

    Returns
    -------
    AffinityMatrix
        Directed, (n, n); a row and its entry of ``outside`` sum to one.

    Raises
    ------
    ArgumentError
        If attention was not captured, or there is no such block.

    Examples
    --------
    >>> from infogeo_adapters import capture_activations, load_model
    >>> acts = capture_activations(load_model(), "The dog ran home.")
    >>> head_average(acts, 2).name
    'head average of block 2'
    """
    maps = _attention(acts)
    if block is None:
        token_map = maps.mean(axis=(0, 1))
        name = f"head average of all {len(maps)} blocks"
    else:
        token_map = maps[_block_row(acts, block)].mean(axis=0)
        name = f"head average of block {block}"
    values, outside = _pool(acts, token_map)
    return AffinityMatrix(
        values=values, words=acts.words, name=name, directed=True, layer=block, outside=outside,
        source=acts.source.with_options(affinity="head_average", block=block),
    )


def attention_rollout(
    acts: LayerActivations, *, residual: float = 0.5, relative_to_uniform: bool | None = None
) -> AffinityMatrix:
    r"""Attention followed through all blocks, the residual path included.

    .. math:: R = \tilde A^{(L)} \cdots \tilde A^{(1)}, \qquad
              \tilde A^{(l)} = r I + (1 - r) \frac{1}{H} \sum_h A^{(l, h)}

    over tokens, then pooled to words as in :func:`single_head` [1]_.

    In a causal model this is mostly a matter of position: with uniform attention almost all weight ends at the first
    tokens, which everybody sees. The result is therefore given relative to uniform attention, as in

    .. math:: a_{ij} = \frac{R_{ij}}{\alpha_i U_{ij} \beta_j}, \qquad
              \sum_j \alpha_i U_{ij} \beta_j = \sum_j R_{ij}, \quad \sum_i \alpha_i U_{ij} \beta_j = \sum_i R_{ij}

    with U the rollout of uniform attention over the same receptive field (the range of offsets at which any head of
    a block puts weight: all earlier tokens, fewer under a sliding window), and sums over the pairs of different
    words with weight. So 1 means "as much as uniform attention gives, if each word gives and gets as much in total
    as it does here". The factors are found by scaling rows and columns in turn (iterative proportional fitting [2]_).

    How much position is left is reported and not assumed away: ``source.options`` holds the rank correlation
    (Spearman) over all word pairs of the symmetrized values with the words' distance :math:`|i - j|`
    (``rank_correlation_with_distance``, negative if near words get more) and with the position of the earlier one,
    :math:`\min(i, j)` (``rank_correlation_with_position``, negative if early words get more). Over sentences of the
    background sample and the bundled model, raw rollout strongly favors early words; the plain ratio R / U turns
    this around and favors late and near ones, as strongly. With the totals fitted, the correlation with position
    vanishes nearly and a weak one with nearness stays, which attention itself may have.

    Parameters
    ----------
    acts : LayerActivations
        Captured with the attention of every block.
    residual : float
        Weight r of the residual path, 0 <= r < 1.
    relative_to_uniform : bool, optional
        Whether to divide by uniform attention with the same totals; by default done for causal models only. The name
        of the result says which it is.

    Returns
    -------
    AffinityMatrix
        Directed, (n, n). Relative to uniform attention, values are ratios, the diagonal is zero, since a word's own
        weight is mostly the residual path, and ``outside`` is None. Otherwise a row and its entry of ``outside`` sum
        to one.

    Raises
    ------
    ArgumentError
        If a block's attention is missing, or ``residual`` lies outside [0, 1).
    ConvergenceError
        If the factors are not found, which can happen where some weights are nearly zero.

    References
    ----------
    .. [1] S. Abnar, W. Zuidema, "Quantifying attention flow in transformers", ACL 2020.
    .. [2] W. E. Deming, F. F. Stephan, "On a least squares adjustment of a sampled frequency table when the expected
       marginal totals are known", Annals of Mathematical Statistics 11, 1940.

    Examples
    --------
    >>> from infogeo_adapters import capture_activations, load_model
    >>> acts = capture_activations(load_model(), "The dog ran home.")
    >>> attention_rollout(acts).name
    'attention rollout, relative to uniform attention with the same totals'
    >>> raw = attention_rollout(acts, relative_to_uniform=False)
    >>> raw.name, raw.source.options["rank_correlation_with_position"] < 0
    ('attention rollout', True)
    """
    steps = _residual_maps(acts, residual)
    values, outside = _pool(acts, _product(steps))
    relative = acts.causal if relative_to_uniform is None else relative_to_uniform
    if relative:
        uniform, _ = _pool(acts, _product(_uniform_steps(_bands(acts), len(acts.tokens), residual)))
        values = relative_to_totals(values, uniform)
    return AffinityMatrix(
        values=values, words=acts.words, name=_path_name("attention rollout", relative), directed=True,
        outside=None if relative else outside,
        source=acts.source.with_options(
            affinity="attention_rollout", residual=residual, relative_to_uniform=relative,
            **position_correlations(values),
        ),
    )


def attention_flow(
    acts: LayerActivations,
    *,
    residual: float = 0.5,
    relative_to_uniform: bool | None = None,
    max_seconds: float = 60.0,
) -> AffinityMatrix:
    r"""Maximum flow from each word after the last block to each word of the input.

    The tokens of all layers are nodes; token s of layer l is joined to token t of layer l - 1 with capacity
    :math:`r [s = t] + (1 - r) \frac{1}{H} \sum_h A^{(l, h)}_{st}`. The affinity of two tokens is the maximum flow
    between the first's node at the top and the second's at the bottom [1]_; tokens are pooled to words as in
    :func:`single_head`. Each pair is a flow problem of its own, so rows do not sum to one.

    Capacities are rounded down to multiples of 2^-30. The flow between two tokens therefore comes out too small by
    at most L T^2 2^-30 (7e-6 for 6 blocks and 35 tokens), and never too large.

    Flow depends on position too, in a causal model on the position of the word that looks. As with
    :func:`attention_rollout` it is given relative to uniform attention, and ``source.options`` holds the rank
    correlations of the result with the words' distance and position.

    Parameters
    ----------
    acts : LayerActivations
        Captured with the attention of every block.
    residual : float
        Weight r of the residual path, 0 <= r < 1.
    relative_to_uniform : bool, optional
        Whether to divide by the flow of uniform attention over the same receptive field, its rows and columns scaled
        to the totals of this one, as in :func:`attention_rollout`; by default done for causal models only.
    max_seconds : float
        Refuse when the estimated time is longer. One flow per pair of tokens, each over about L T^2 edges.

    Returns
    -------
    AffinityMatrix
        Directed, (n, n), ``outside`` None; the diagonal is zero if relative to uniform attention.

    Raises
    ------
    ArgumentError
        If a block's attention is missing, ``residual`` lies outside [0, 1), or the text is too long.
    ConvergenceError
        If the factors of rows and columns are not found.

    References
    ----------
    .. [1] S. Abnar, W. Zuidema, "Quantifying attention flow in transformers", ACL 2020.

    Examples
    --------
    >>> from infogeo_adapters import capture_activations, load_model
    >>> acts = capture_activations(load_model(), "The dog ran home.")
    >>> attention_flow(acts).name
    'attention flow, relative to uniform attention with the same totals'
    """
    steps = _residual_maps(acts, residual)
    in_words = tuple(int(t) for t in np.flatnonzero(acts.token_words >= 0))
    relative = acts.causal if relative_to_uniform is None else relative_to_uniform
    seconds = len(in_words) ** 2 * np.count_nonzero(steps) * FLOW_SECONDS_PER_EDGE * (2 if relative else 1)
    if seconds > max_seconds:
        raise ArgumentError(
            f"attention flow of {len(in_words)} tokens through {len(steps)} blocks would take about {seconds:.1f} s, "
            f"more than max_seconds={max_seconds:g}; use attention_rollout, a shorter text, or a larger max_seconds"
        )
    values, _ = _pool(acts, _token_flow(steps, in_words))
    if relative:
        uniform, _ = _pool(acts, _uniform_flow(_bands(acts), len(acts.tokens), residual, in_words))
        values = relative_to_totals(values, uniform)
    return AffinityMatrix(
        values=values, words=acts.words, name=_path_name("attention flow", relative), directed=True,
        source=acts.source.with_options(
            affinity="attention_flow", residual=residual, relative_to_uniform=relative,
            rounding_error=float(steps.size / FLOW_SCALE), **position_correlations(values),
        ),
    )


def _attention(acts: LayerActivations) -> FloatArray:
    """Attention (A, H, T, T) in float64, checked to be probabilities (or less, where a sink takes a part)."""
    if acts.attention is None:
        raise ArgumentError("attention was not captured; capture it with attention=True")
    maps = np.asarray(acts.attention, dtype=np.float64)
    sums = maps.sum(axis=-1)
    if not np.isfinite(maps).all() or (maps < 0).any() or (sums > 1 + ROW_SUM_TOLERANCE).any():
        raise DomainError(
            f"attention: rows must be probabilities; found values from {np.min(maps):.3g} to {np.max(maps):.3g} and "
            f"row sums up to {np.max(sums):.3g}; capture with the model in eval mode and in float32"
        )
    if not maps.any(axis=(1, 2, 3)).all():
        block = acts.attention_layers[int(np.argmin(maps.any(axis=(1, 2, 3))))]
        raise DomainError(f"attention: block {block} holds no weight at all; its maps were not captured")
    return maps


def _block_row(acts: LayerActivations, block: int) -> int:
    """Index into ``acts.attention`` of a block counted from 1."""
    if block in acts.attention_layers:
        return acts.attention_layers.index(block)
    if 1 <= block <= acts.n_layers:
        raise ArgumentError(f"block {block} has no attention map here; blocks with one: {list(acts.attention_layers)}")
    raise ArgumentError(f"block {block} does not exist: this model has blocks 1 to {acts.n_layers}")


def _residual_maps(acts: LayerActivations, residual: float) -> FloatArray:
    """The step of each block, r I + (1 - r) times the head mean, (L, T, T)."""
    if not 0 <= residual < 1:
        raise ArgumentError(f"residual: found {residual}, wanted a weight of at least 0 and below 1")
    maps = _attention(acts).mean(axis=1)
    if acts.attention_layers != tuple(range(1, acts.n_layers + 1)):
        raise ArgumentError(
            f"attention can be followed from top to bottom only through every block; of blocks 1 to {acts.n_layers} "
            f"there is attention for {list(acts.attention_layers)}; use head_average or single_head"
        )
    steps: FloatArray = residual * np.eye(maps.shape[-1]) + (1 - residual) * maps
    return steps


def _bands(acts: LayerActivations) -> tuple[Band, ...]:
    """For each block the smallest and the largest offset (query minus key) at which any head puts weight."""
    bands = []
    for block in _attention(acts):
        query, key = np.nonzero(block.any(axis=0))
        bands.append((int((query - key).min()), int((query - key).max())))
    return tuple(bands)


def _uniform_steps(bands: tuple[Band, ...], n_tokens: int, residual: float) -> FloatArray:
    """The steps of uniform attention over the offsets in ``bands``, (L, T, T)."""
    offset = np.arange(n_tokens)[:, None] - np.arange(n_tokens)[None, :]
    steps = np.empty((len(bands), n_tokens, n_tokens))
    for step, (low, high) in zip(steps, bands, strict=True):
        seen = ((offset >= low) & (offset <= high)).astype(np.float64)
        # a row outside the band (possible where a sink took everything) looks nowhere
        step[:] = residual * np.eye(n_tokens) + (1 - residual) * seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    return steps


def _product(steps: FloatArray) -> FloatArray:
    """Steps of blocks 1 to L multiplied, the last block first."""
    total = np.eye(steps.shape[-1])
    for step in steps:
        total = step @ total
    return total


def _token_flow(steps: FloatArray, tokens: tuple[int, ...]) -> FloatArray:
    """Maximum flow (T, T) from top to bottom between the given tokens; zero elsewhere."""
    n_blocks, n_tokens, _ = steps.shape
    capacity = np.floor(steps * FLOW_SCALE).astype(np.int32)
    # node (l - 1) T + t is token t after block l; the input token asked for is the last node, the others lead nowhere
    sink = n_blocks * n_tokens
    block, query, key = np.nonzero(capacity[1:])
    upper = (capacity[1:][block, query, key], (block + 1) * n_tokens + query, block * n_tokens + key)
    flow = np.zeros((n_tokens, n_tokens))
    for target in tokens:
        lower = np.flatnonzero(capacity[0, :, target])
        data = np.concatenate([upper[0], capacity[0, lower, target]])
        rows = np.concatenate([upper[1], lower])
        columns = np.concatenate([upper[2], np.full(len(lower), sink)])
        graph = csr_array((data, (rows, columns)), shape=(sink + 1, sink + 1), dtype=np.int32)
        for source in tokens:
            found = maximum_flow(graph, (n_blocks - 1) * n_tokens + source, sink, method="dinic")
            flow[source, target] = found.flow_value / FLOW_SCALE
    return flow


@lru_cache(maxsize=16)
def _uniform_flow(bands: tuple[Band, ...], n_tokens: int, residual: float, tokens: tuple[int, ...]) -> FloatArray:
    flow = _token_flow(_uniform_steps(bands, n_tokens, residual), tokens)
    flow.setflags(write=False)
    return flow


def _pool(acts: LayerActivations, token_map: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Word map (n, n) of a token map (T, T), and the weight (n,) that each word gives to tokens of no word."""
    looking = acts.pooling_matrix("mean") @ token_map
    looked_at = (acts.token_words[:, None] == np.arange(len(acts.words))[None, :]).astype(np.float64)
    return looking @ looked_at, looking[:, acts.token_words < 0].sum(axis=1)


def _path_name(what: str, relative: bool) -> str:
    return f"{what}, relative to uniform attention with the same totals" if relative else what
