"""The logit lens: what a model would predict if it stopped after each layer, and how sure it would be."""

from __future__ import annotations

import numpy as np

from infogeo._checks import IntArray
from infogeo.activations import LayerActivations
from infogeo.entropy import EntropyProfile, entropy_of_logits
from infogeo.errors import ArgumentError
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY, ReadOut, UserReadOut, readout_for


def logit_lens(
    model: LanguageModel,
    text: str | LayerActivations,
    *,
    used_only: bool = False,
    readout: ReadOut | UserReadOut | None = None,
    memory: float = MEMORY,
) -> EntropyProfile:
    r"""Entropy of the prediction read out at every layer and token of a text.

    .. math:: H_{l,t} = -\sum_v p_{l,t}(v) \log p_{l,t}(v), \qquad
              p_{l,t} = \mathrm{softmax}(U\,\mathrm{norm}(x_{l,t}))

    with x the residual stream after block l (l = 0: the embedding), norm and U the model's own final norm and
    unembedding [1]_, [2]_. The last layer gives the model's own prediction. In a masked language model nothing is
    masked here: the prediction at a token is of the token itself, which the model sees.

    Logits are made a few tokens at a time, so that memory does not grow with layers times tokens times vocabulary.

    Parameters
    ----------
    model : LanguageModel
        A causal or masked language model, the one the activations were captured from.
    text : str or LayerActivations
        A text is captured first (without attention).
    used_only : bool
        Leave out the rows of the head that belong to no token of the tokenizer, as many models have some for
        padding. They carry probability, so the entropy changes; ``n_outcomes`` says how many are left.
    readout : callable or ReadOut, optional
        Used in place of the model's own, see :func:`~infogeo_adapters.transformers.readout.find_readout`.
    memory : float
        Bytes that one chunk of tokens may take.

    Returns
    -------
    EntropyProfile
        Entropies in nats (L + 1, T), and the most probable token of each with its probability.

    Raises
    ------
    ModelError
        If the model has no head, or its read-out cannot be found.
    ArgumentError
        If the activations are another model's.
    TextError
        If the text is empty or too long for the model.

    References
    ----------
    .. [1] nostalgebraist, "interpreting GPT: the logit lens", 2020.
    .. [2] R. Ali, F. Caso, C. Irwin, P. Liò, "Entropy-Lens", arXiv 2502.16570
       (there at the last token only).

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> profile = logit_lens(load_model(), "The dog ran home.")
    >>> profile.predicts, profile.n_outcomes, profile.entropy.shape == (7, len(profile.tokens))
    ('next', 4096, True)
    """
    acts = capture_activations(model, text, attention=False) if isinstance(text, str) else text
    if not isinstance(acts, LayerActivations):
        raise ArgumentError(f"text: found {type(text).__name__}, wanted one text or its LayerActivations")
    found = readout_for(model, acts, readout)
    layers, t = acts.n_layers + 1, len(acts.tokens)
    entropy, top_probability = np.empty((layers, t)), np.empty((layers, t))
    top_id = np.empty((layers, t), dtype=np.int64)
    used = np.asarray(sorted(set(model.tokenizer.get_vocab().values()))) if used_only else None
    n_outcomes = 0
    for layer in range(layers):
        for where, logits in found.chunks(acts.hidden_states[layer], memory=memory):
            if used is not None:
                used = used[used < logits.shape[1]]
                logits = logits[:, used]
            n_outcomes = logits.shape[1]
            entropy[layer, where] = entropy_of_logits(logits)
            best = logits.argmax(axis=1)
            top_id[layer, where] = best if used is None else used[best]
            logits -= logits.max(axis=1, keepdims=True)
            top_probability[layer, where] = 1 / np.exp(logits, out=logits).sum(axis=1)
    return EntropyProfile(
        entropy=entropy, top_tokens=tuple(tuple(_names(model, row)) for row in top_id),
        top_probability=top_probability, tokens=acts.tokens, token_words=acts.token_words, words=acts.words,
        predicts=found.predicts, n_outcomes=n_outcomes,
        source=acts.source.with_options(
            lens="logit_lens", readout=", ".join((*found.path, *found.scalings)), used_only=used_only,
            readout_max_difference=found.max_difference,
        ),
    )


def _names(model: LanguageModel, ids: IntArray) -> list[str]:
    """Tokens as the tokenizer names them; rows of the head without a token are named by their number."""
    names = model.tokenizer.convert_ids_to_tokens(ids.tolist())
    return [name if isinstance(name, str) else f"<unused {i}>" for name, i in zip(names, ids.tolist(), strict=True)]
