"""Hidden states of all layers and attention of all heads of a text, its words aligned by characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from infogeo.activations import LayerActivations, Pooling
from infogeo.errors import ArgumentError, TextError
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.alignment import Splitter, Words, check_text, encode, word_spans, written_specials
from infogeo_adapters.transformers.forward import Overflow, prepare, run_items, splitter_name
from infogeo_adapters.transformers.loading import LanguageModel

if TYPE_CHECKING:
    from infogeo.estimation import Background


@overload
def capture_activations(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: str, *, words: Words | None = ..., attention: bool = ..., overflow: Overflow = ...,
    batch_tokens: int = ...,
) -> LayerActivations: ...


@overload
def capture_activations(
    model: LanguageModel, text: Sequence[str], *, words: Any = ..., attention: bool = ..., overflow: Overflow = ...,
    batch_tokens: int = ...,
) -> list[LayerActivations]: ...


def capture_activations(
    model: LanguageModel,
    text: str | Sequence[str],
    *,
    words: Any = None,
    attention: bool = True,
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
) -> LayerActivations | list[LayerActivations]:
    r"""Run a model on one text or many and keep what it computes on the way.

    Layer 0 is what goes into the first block, layer :math:`\ell` what comes out of block :math:`\ell`, always before
    the final norm (unlike ``hidden_states[-1]`` of transformers, which is after it in GPT-2, Llama and T5). In BERT and
    BART each block ends in its own norm and there is no final one. Of an encoder-decoder model the encoder is captured.

    Attention is computed by the eager implementation, since the faster ones return none; the model is set back
    afterwards, also to the mode (training or evaluation) it was in. Without attention the model computes as it is,
    which changes hidden states in the last digits only.

    Texts are padded on the right, whatever side the tokenizer prefers, so that the positions of real tokens are the
    same as without padding; the padding is masked and cut away. A model that cannot mask padding (FNet) gets only texts
    of equal length in one batch. A text gives the same numbers alone and in a batch, to rounding.

    Captures of one model are serial: threads may share a model, and each batch waits until no other runs on it, since
    mode, hooks and attention are set on the model itself. Calls of the model outside infogeo do not wait.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    text : str or sequence of str
    words : optional
        How a text falls into words: a function from text to (first, end) character spans; for one text also the spans,
        or the words in order; for many texts also a sequence with one such entry (or None) for each text. By default
        :func:`~infogeo_adapters.transformers.alignment.split_words`, and words that the tokenizer fuses into one token
        are joined (``source.options["joined_words"]`` says how many); words given by the caller are never changed.
    attention : bool
        Whether to keep attention too.
    overflow : {"error", "truncate"}
        What to do with a text longer than the model's context: refuse it, or cut it after the last word that fits
        and say so in ``source.options["truncated_words"]``. See also :func:`split_into_windows`.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer text runs alone.

    Returns
    -------
    LayerActivations, or a list of them
        One for one text; for many a list in their order. Hidden states (L + 1, T, d) and attention (A, H, T, T) are
        float32, or float64 for a float64 model. ``source`` names the weights as they were at the capture, also if they
        have been changed since loading.

    Raises
    ------
    TextError
        A text is empty, not a str, too long, or has a word that no token stands for.
    ModelError
        Attention is asked of a model that has or gives none, or what it gives are no probabilities.
    DomainError
        Hidden states are NaN or infinite.
    ArgumentError
        An argument has no such value.

    Notes
    -----
    A text of T tokens takes :math:`4 (L + 1) T d` bytes for hidden states and :math:`4 L H T^2` for attention, and the
    second up to three times while it is captured: 12 blocks of 12 heads need 0.6 GB for 1024 tokens. A batch needs that
    for all its texts, so lower ``batch_tokens`` for long texts, or go without attention.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> acts = capture_activations(load_model(), "The cat sat on the mat.")
    >>> acts.words
    ('The', 'cat', 'sat', 'on', 'the', 'mat', '.')
    >>> acts.hidden_states.shape == (7, len(acts.tokens), 160), acts.attention.shape[:2]
    (True, (6, 5))
    """
    _check_model(model)
    if overflow not in ("error", "truncate"):
        raise ArgumentError(f"overflow {overflow!r} does not exist; choose 'error' or 'truncate'")
    if isinstance(batch_tokens, bool) or not isinstance(batch_tokens, int) or batch_tokens < 1:
        raise ArgumentError(f"batch_tokens: found {batch_tokens!r}, wanted a positive whole number")
    if isinstance(text, str):
        item = prepare(model, check_text(text), words, overflow)
        return next(run_items(model, [item], attention=attention, batch_tokens=batch_tokens))[1]
    texts = _several(text)
    splits = _words_of_each(words, len(texts))
    items = [prepare(model, check_text(t), w, overflow) for t, w in zip(texts, splits, strict=True)]
    results = dict(run_items(model, items, attention=attention, batch_tokens=batch_tokens))
    return [results[i] for i in range(len(items))]


def split_into_windows(model: LanguageModel, text: str, *, max_tokens: int | None = None) -> list[str]:
    """Cut a long text into texts that fit the model's context, between words, at white space where there is any.

    Nothing is lost but the white space at the cuts, and windows do not overlap; a word at the start of a window is
    seen without what came before it.

    Parameters
    ----------
    model : LanguageModel
    text : str
    max_tokens : int, optional
        Most tokens in a window, special tokens counted; the model's context length by default.

    Returns
    -------
    list of str

    Raises
    ------
    TextError
        The text is empty, or one word alone is longer than a window.
    ArgumentError
        ``max_tokens`` is not positive or beyond the context.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> split_into_windows(load_model(), "One day the sun shone and all was well.", max_tokens=8)
    ['One day the sun shone and', 'all was well.']
    """
    _check_model(model)
    check_text(text)
    context = model.context_length
    limit = context if max_tokens is None else max_tokens
    if limit is None:
        return [text.strip()]
    if limit < 1 or (context is not None and limit > context):
        raise ArgumentError(f"max_tokens: found {limit}, wanted 1 to {context or 'any number'} (the model's context)")
    tokens = encode(model.tokenizer, text)
    spans = word_spans(text, None, whole=written_specials(model.tokenizer, text, tokens))
    starts, ends = tokens.spans[~tokens.special, 0], np.array([end for _, end in spans])
    room = limit - int(tokens.special.sum())
    after_space = [k == len(spans) or spans[k - 1][1] < spans[k][0] for k in range(len(spans) + 1)]

    def count(piece: str) -> int:
        return len(encode(model.tokenizer, piece).ids)

    windows = []
    first = 0
    while first < len(spans):
        begin = spans[first][0]
        token = max(int(np.searchsorted(starts, begin)) + room, 0)
        reach = starts[token] if token < len(starts) else len(text)
        most = max(first + 1, int(np.searchsorted(ends, reach, side="right")))
        # a shorter text may take more tokens than a longer one, so each candidate is counted
        candidates = sorted(range(first + 1, most + 1), key=lambda k: (not after_space[k], -k))
        last = next((k for k in candidates if count(text[begin : ends[k - 1]]) <= limit), None)
        if last is None:
            word = text[slice(*spans[first])]
            raise TextError(f"word {first} ({word[:40]!r}) alone takes more than {limit} tokens; shorten it")
        windows.append(text[begin : ends[last - 1]])
        first = last
    return windows


def capture_background(
    model: LanguageModel,
    text: str | Sequence[str] | None = None,
    *,
    words: Splitter | None = None,
    pooling: Pooling = "mean",
    batch_tokens: int = 4096,
) -> Background:
    """Mean and covariance of a model's word vectors at every layer, from a background text.

    Each paragraph of the text (blank lines separate them) is run as a text of its own, in windows if it is longer than
    the context. Only sums are kept, so the text may be long.

    Parameters
    ----------
    model : LanguageModel
    text : str or sequence of str, optional
        By default the sample that ships with infogeo, 6,000 words of English prose. Of a sequence each text is run by
        itself.
    words : callable, optional
        A function from text to word spans; by default as in :func:`capture_activations`.
    pooling : {"mean", "first", "last"}
        How the tokens of a word are turned into its vector.
    batch_tokens : int
        Most tokens in one batch.

    Returns
    -------
    infogeo.estimation.Background

    Raises
    ------
    TextError
        The text is empty or cannot be tokenized.
    DomainError
        It has fewer than two words.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> background = capture_background(load_model(), "The sun rose over the hill. The birds began to sing.")
    >>> background.n_words, background.n_layers
    (13, 6)
    """
    from infogeo.estimation import estimate_background

    _check_model(model)
    given = background_text() if text is None else text
    if isinstance(given, str):
        paragraphs = [p for p in re.split(r"\n\s*\n", check_text(given)) if p.strip()]
    else:
        paragraphs = [check_text(t) for t in _several(given)]
    windows = [window for p in paragraphs for window in split_into_windows(model, p)]
    items = [prepare(model, window, words, "error") for window in windows]
    captured = run_items(model, items, attention=False, batch_tokens=batch_tokens)
    background = estimate_background((acts for _, acts in captured), pooling=pooling)
    options: dict[str, str | int | float | bool | None] = {
        **model.source.options, "words": splitter_name(words), "background": "packaged" if text is None else "given",
        "windows": len(windows),
    }
    return replace(background, source=replace(background.source, options=options))


def _check_model(model: object) -> None:
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")


def _several(text: Sequence[str]) -> Sequence[str]:
    """The texts themselves, or an error if it is no sequence of at least one."""
    if isinstance(text, bytes) or not isinstance(text, Sequence):
        check_text(text)
    if not len(text):
        raise TextError("text: found no texts, wanted at least one")
    return text


def _words_of_each(words: Any, count: int) -> list[Words | None]:
    if words is None or callable(words):
        return [words] * count
    try:
        given = [] if isinstance(words, str | bytes) else list(words)
    except TypeError as error:
        raise ArgumentError(f"words: found {words!r}, wanted a function or a list with each text's words") from error
    if len(given) != count:
        raise ArgumentError(f"words: found {len(given)} entries for {count} texts, wanted one for each")
    return given
