"""Hidden states of all layers and attention of all heads of a text, its words aligned by characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from infogeo._checks import check_count
from infogeo.activations import EncoderDecoderActivations, LayerActivations, Pooling
from infogeo.errors import ArgumentError, TextError
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.alignment import Splitter, Words, check_text, encode, word_spans, written_specials
from infogeo_adapters.transformers.arguments import check_capture, check_model, several_texts, words_of_each
from infogeo_adapters.transformers.forward import Overflow, prepare, prepare_all, run_items, splitter_name
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.pairs import prepare_pair, prepare_pairs, run_pairs
from infogeo_adapters.transformers.stack import find_stack

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
    BART each block ends in its own norm and there is no final one. Of an encoder-decoder model the encoder is captured;
    :func:`capture_encoder_decoder` captures both stacks.

    The model computes attention as it is, by its fast function, and the probabilities are formed beside it, block by
    block, from the same queries and keys; so the hidden states are the same with and without attention. Only a model
    that this does not serve (soft-capped scores, sinks, attention code of its own) is switched to the eager function,
    which changes its states in the last digits; ``attention_kinds`` says for each map which it was. The model is set
    back afterwards, also to the mode (training or evaluation) it was in.

    Texts are padded on the right, whatever side the tokenizer prefers, so that the positions of real tokens are the
    same as without padding; the padding is masked and cut away. A model that cannot mask padding (FNet) gets only texts
    of equal length in one batch. A text gives the same numbers alone and in a batch, to rounding.

    Captures of one model are serial: threads may share a model, and each batch waits until no other runs on it, since
    mode, hooks and attention are set on the model itself. Calls of the model outside infogeo do not wait, and are not
    recorded. An autocast of the caller's is left out: the model computes in the format of its weights.

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
        have been changed since loading; ``source.options["was_training"]`` is there, and True, if the model was in
        training mode before and after.

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
    A text of T tokens takes :math:`4 (L + 1) T d` bytes for hidden states and :math:`4 L H T^2` for attention, and
    while it is captured the first up to three times and the second twice: the attention of 12 blocks of 12 heads needs
    0.6 GB for 1024 tokens, and 1.2 GB meanwhile. All that is memory of the host; where the model runs there are the
    hidden states once and one block's map at a time. A batch needs it for all its texts, so lower ``batch_tokens`` for
    long texts, or go without attention.

    The result always has all layers, so that an index is a layer;
    :func:`~infogeo_adapters.corpus.capture_corpus` keeps chosen ones.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> acts = capture_activations(load_model(), "The cat sat on the mat.")
    >>> acts.words
    ('The', 'cat', 'sat', 'on', 'the', 'mat', '.')
    >>> acts.hidden_states.shape == (7, len(acts.tokens), 160), acts.attention.shape[:2]
    (True, (6, 5))
    """
    check_capture(model, overflow, batch_tokens)
    if isinstance(text, str):
        item = prepare(model, check_text(text), words, overflow)
        return next(run_items(model, [item], attention=attention, batch_tokens=batch_tokens))[1]
    texts = several_texts(text)
    splits = words_of_each(words, len(texts))
    items = prepare_all(model, texts, splits, overflow)
    results = dict(run_items(model, items, attention=attention, batch_tokens=batch_tokens))
    return [results[i] for i in range(len(items))]


@overload
def capture_encoder_decoder(  # type: ignore[overload-overlap]
    model: LanguageModel, text: str, target: str, *, words: Words | None = ..., target_words: Words | None = ...,
    attention: bool = ..., overflow: Overflow = ..., batch_tokens: int = ...,
) -> EncoderDecoderActivations: ...


@overload
def capture_encoder_decoder(
    model: LanguageModel, text: Sequence[str], target: Sequence[str], *, words: Any = ..., target_words: Any = ...,
    attention: bool = ..., overflow: Overflow = ..., batch_tokens: int = ...,
) -> list[EncoderDecoderActivations]: ...


def capture_encoder_decoder(
    model: LanguageModel,
    text: str | Sequence[str],
    target: str | Sequence[str],
    *,
    words: Any = None,
    target_words: Any = None,
    attention: bool = True,
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
) -> EncoderDecoderActivations | list[EncoderDecoderActivations]:
    r"""Run both stacks of an encoder-decoder model on a source text and a target text, and keep what they compute.

    The encoder reads the source. The decoder reads, from the left, a start token and then the tokens of the target
    without the last one, and predicts at position :math:`t` the target's token :math:`y_t` from
    :math:`y_1, \ldots, y_{t-1}` and the source (teacher forcing): what the model computes when it is given
    ``labels=``. Tokens of the target are those that the tokenizer makes of ``text_target=``, special ones included, and
    the start token is the one that the model's own shift of the labels puts in front, or its config.

    Layers, attention, padding and threads are as in :func:`capture_activations`, in both stacks. Layer 0 of the decoder
    is what goes into its first block.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`, with an encoder and a decoder (T5, BART, mBART, Pegasus, Marian).
    text : str or sequence of str
        What the encoder reads.
    target : str or sequence of str
        What the decoder is to write: one target for each text.
    words, target_words : optional
        How the source and the target fall into words, each as in :func:`capture_activations`.
    attention : bool
        Whether to keep the attention of the encoder, of the decoder, and of the decoder to the encoder.
    overflow : {"error", "truncate"}
        What to do with a source or a target longer than the context: refuse it, or cut it after the last word that
        fits and say so in the ``source.options["truncated_words"]`` of its side.
    batch_tokens : int
        Most tokens in one batch, those of sources and targets together, padding counted; a longer pair runs alone.

    Returns
    -------
    EncoderDecoderActivations or list of EncoderDecoderActivations
        ``encoder`` and ``decoder`` with ``source.options["side"]``, ``cross_attention`` (A, H, T_target, T_source), and
        in ``target_ids`` the label of each position of the decoder. Of a target that ends in a word, and not in a token
        of the tokenizer's own, the decoder never reads the last word if it is one token:
        ``decoder.source.options["unread_words"]`` is then 1 and the word is not among ``decoder.words``.

    Raises
    ------
    ArgumentError
        The model has no decoder beside its encoder, the numbers of texts and targets differ, or an argument has no such
        value.
    TextError
        A source or a target (the message begins with which) is empty, not a str, too long, has a word that no token
        stands for, or is a target of which the decoder would read nothing.
    ModelError
        The decoder cannot be read, it is not known which token it starts with, or attention is asked of a model that
        gives none.
    DomainError
        Hidden states are NaN or infinite.

    Examples
    --------
    A tiny random model with a tokenizer of whole words:

    >>> import tokenizers, torch, transformers
    >>> names = ["<pad>", "</s>", "<unk>", "the", "old", "dog", "ran"]
    >>> raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, "<unk>"))
    >>> raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    >>> raw.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    >>> tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")
    >>> _ = torch.manual_seed(0)
    >>> net = transformers.T5ForConditionalGeneration(transformers.T5Config(
    ...     vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2, decoder_start_token_id=0))
    >>> from infogeo_adapters import load_model
    >>> both = capture_encoder_decoder(load_model(net, tokenizer=tokenizer), "the old dog", "dog ran")
    >>> both.encoder.tokens, both.decoder.tokens
    (('the', 'old', 'dog', '</s>'), ('<pad>', 'dog', 'ran'))
    >>> both.target_ids.tolist(), both.cross_attention.shape, both.cross_word_attention().shape
    ([5, 6, 1], (2, 2, 3, 4), (2, 2, 2, 3))
    """
    check_capture(model, overflow, batch_tokens)
    if model.kind != "encoder-decoder":
        raise ArgumentError(
            f"model: {model.name} is one stack ({model.kind}) and not an encoder-decoder; "
            "use capture_activations(model, text)"
        )
    find_stack(model.model, "decoder")  # a decoder that cannot be read is refused before texts are looked at
    one = isinstance(text, str), isinstance(target, str)
    if any(one) and not all(one) and all(isinstance(t, str | list | tuple) for t in (text, target)):
        raise ArgumentError(
            f"text and target: found {type(text).__name__} and {type(target).__name__}, wanted two texts, or two lists"
        )
    if one[0]:
        pair = prepare_pair(model, text, target, words, target_words, overflow)
        return next(run_pairs(model, [pair], attention=attention, batch_tokens=batch_tokens))[1]
    texts, targets = several_texts(text, "source"), several_texts(target, "target")
    if len(texts) != len(targets):
        raise ArgumentError(f"target: found {len(targets)} targets for {len(texts)} texts, wanted one for each")
    splits = words_of_each(words, len(texts)), words_of_each(target_words, len(texts), "target_words")
    pairs = prepare_pairs(model, texts, targets, *splits, overflow)
    results = dict(run_pairs(model, pairs, attention=attention, batch_tokens=batch_tokens))
    return [results[i] for i in range(len(pairs))]


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
        ``max_tokens`` is no whole number, not positive, or beyond the context.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> split_into_windows(load_model(), "One day the sun shone and all was well.", max_tokens=8)
    ['One day the sun shone and', 'all was well.']
    """
    check_model(model)
    check_text(text)
    context = model.context_length
    limit = context if max_tokens is None else check_count("max_tokens", max_tokens)
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

    check_model(model)
    given = background_text() if text is None else text
    if isinstance(given, str):
        paragraphs = [p for p in re.split(r"\n\s*\n", check_text(given)) if p.strip()]
    else:
        paragraphs = [check_text(t) for t in several_texts(given)]
    windows = [window for p in paragraphs for window in split_into_windows(model, p)]
    items = [prepare(model, window, words, "error") for window in windows]
    captured = run_items(model, items, attention=False, batch_tokens=batch_tokens)
    background = estimate_background((acts for _, acts in captured), pooling=pooling)
    options: dict[str, str | int | float | bool | None] = {
        **model.source.options, "words": splitter_name(words), "background": "packaged" if text is None else "given",
        "windows": len(windows),
    }
    return replace(background, source=replace(background.source, options=options))
