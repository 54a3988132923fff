"""How well a causal language model predicts a text, and what its attention and layers do.

The measures behind the model card of the bundled model: bits per byte next to general compressors, the entropy of
each attention head, and how far each block moves the words. An untrained twin gives the number to compare with.
"""

from __future__ import annotations

import bz2
import lzma
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from infogeo.errors import ArgumentError, TextError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


CHARACTERS_PER_TOKEN = 20
"""More than a token stands for in prose (about 4)."""


@dataclass(frozen=True)
class TextScore:
    """Code length of a text under a model."""

    nats: float
    """Sum over the tokens of minus the log-probability."""
    n_tokens: int
    """Tokens predicted; the begin token is given, not predicted."""
    n_bytes: int
    """Length of the text in UTF-8."""

    @property
    def bits_per_byte(self) -> float:
        """Code length in bits per byte of UTF-8; independent of the tokenizer."""
        return self.nats / math.log(2) / self.n_bytes

    @property
    def nats_per_token(self) -> float:
        """Mean loss, as in training."""
        return self.nats / self.n_tokens


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """Attention entropy and layer-to-layer change of a model on a text."""

    attention_entropy: NDArray[np.float64]
    """(L, H) mean over the tokens of the entropy of a head's attention, as a share of the largest possible."""
    layer_change: NDArray[np.float64]
    """(L) mean over the tokens of the length of what a block adds, as a share of the length of what enters it."""


def compressed_bits_per_byte(data: bytes) -> dict[str, float]:
    """Bits per byte of a file under ``bzip2 -9`` and ``xz -9e``, container included.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    dict of str to float

    Raises
    ------
    TextError
        If there is nothing to compress.

    Examples
    --------
    >>> found = compressed_bits_per_byte(b"so it goes, " * 50)
    >>> list(found), all(0 < bits < 8 for bits in found.values())
    (['bzip2 -9', 'xz -9e'], True)
    """
    if not data:
        raise TextError("found an empty text, wanted at least one byte; bits per byte need something to divide by")
    packed = {"bzip2 -9": bz2.compress(data, 9), "xz -9e": lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)}
    return {name: 8 * len(content) / len(data) for name, content in packed.items()}


def score_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    context: int | None = None,
    stride: int | None = None,
    batch: int = 8,
    progress: bool = False,
) -> TextScore:
    """Code length of a text under a causal language model, every token predicted once.

    The text is read in windows of ``context`` tokens, a begin token first, each ``stride`` tokens further. A window
    predicts the tokens that the one before did not reach; with the default stride each token sees at least half a
    context of text before it, apart from the first ones. With ``stride = context - 1`` the windows do not overlap.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model on any device; it is used in evaluation mode and left as it was.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer, with a begin token.
    text : str
        Text of any length.
    context : int, optional
        Window length with the begin token; the model's longest input by default.
    stride : int, optional
        Tokens from one window to the next; half a context by default.
    batch : int, optional
        Windows per forward pass.
    progress : bool, optional
        Show a bar on standard error (needs tqdm).

    Returns
    -------
    TextScore

    Raises
    ------
    TextError
        If the text is empty.
    ArgumentError
        If the tokenizer has no begin token, or stride or context are out of range.
    """
    import torch

    from infogeo_adapters.transformers.locks import lock_of
    from infogeo_adapters.transformers.stack import evaluating

    context = context or int(model.config.max_position_embeddings)
    stride = stride or context // 2
    if not 2 <= context <= model.config.max_position_embeddings:
        raise ArgumentError(f"context: found {context}, wanted 2 to {model.config.max_position_embeddings}")
    if not 1 <= stride < context:
        raise ArgumentError(f"stride: found {stride}, wanted 1 to {context - 1}, one less than the context")
    ids = _token_ids(tokenizer, text)
    firsts = range(0, max(1, len(ids) - (context - 1) + stride), stride)
    groups = [list(firsts)[i : i + batch] for i in range(0, len(firsts), batch)]
    if progress:
        from tqdm import tqdm  # type: ignore[import-untyped]

        groups = tqdm(groups, desc="scoring", unit="batch")
    nats, counted = 0.0, 0
    with lock_of(model), evaluating(model), torch.inference_mode():
        for group in groups:
            windows = torch.full((len(group), context), int(tokenizer.bos_token_id), dtype=torch.long)
            targets = torch.full((len(group), context - 1), -100, dtype=torch.long)
            for row, first in enumerate(group):
                piece = torch.from_numpy(ids[first : first + context - 1])
                windows[row, 1 : 1 + len(piece)] = piece
                known = 0 if first == 0 else context - 1 - stride
                targets[row, known : len(piece)] = piece[known:]
            nats += _nats(model, windows.to(model.device), targets.to(model.device))
            counted += int((targets != -100).sum())
    return TextScore(nats=nats, n_tokens=counted, n_bytes=len(text.encode("utf-8")))


def untrained_twin(model: PreTrainedModel, *, seed: int = 1) -> PreTrainedModel:
    """A model of the same configuration with fresh random weights; torch's random state is left as it was.

    Parameters
    ----------
    model : PreTrainedModel
        Any model; only its class and configuration are used.
    seed : int, optional
        Seed of the weights.

    Returns
    -------
    PreTrainedModel
        In evaluation mode, on the CPU, float32.
    """
    import copy

    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = type(model)(copy.deepcopy(model.config))
    twin.to(dtype=torch.float32)  # type: ignore[call-arg]
    twin.train(False)
    return twin


def layer_profile(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, *, context: int | None = None
) -> LayerProfile:
    """Attention entropy by head and change by block, on the first window of a text, for a causal language model.

    Parameters
    ----------
    model : PreTrainedModel
        Captured by :func:`~infogeo_adapters.capture_activations`, in evaluation mode, and left as it was.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    text : str
        Only as many words of its beginning as fit ``context`` tokens are used.
    context : int, optional
        Most tokens, special ones counted; the model's longest input by default.

    Returns
    -------
    LayerProfile
        The first token is left out of all means: it can attend only to itself.

    Raises
    ------
    TextError
        If the text is empty.
    ModelError
        If the model cannot be captured, or has no attention.
    ArgumentError
        If the model is not causal, ``context`` is out of range, or less than two tokens are left.
    """
    from infogeo_adapters.transformers.capture import capture_activations, split_into_windows
    from infogeo_adapters.transformers.loading import load_model

    loaded = load_model(model, tokenizer=tokenizer)
    if loaded.kind != "decoder":
        raise ArgumentError(f"{loaded.name} is an {loaded.kind}; only causal language models are profiled")
    longest = context or loaded.context_length
    # no need to cut the whole text into windows for the first one
    beginning = text if longest is None else text[: CHARACTERS_PER_TOKEN * longest]
    acts = capture_activations(loaded, split_into_windows(loaded, beginning, max_tokens=longest)[0])
    n_tokens = len(acts.tokens)
    if acts.attention is None or n_tokens < 2:
        raise ArgumentError(f"text: found {n_tokens} token, wanted at least two; give a longer text or context")
    entropy = entr(acts.attention[:, :, 1:].astype(np.float64)).sum(axis=-1)  # (L, H, T - 1)
    h = acts.hidden_states[:, 1:].astype(np.float64)  # (L + 1, T - 1, d)
    change = np.linalg.norm(h[1:] - h[:-1], axis=-1) / np.linalg.norm(h[:-1], axis=-1)
    return LayerProfile((entropy / np.log(np.arange(2, n_tokens + 1))).mean(axis=-1), change.mean(axis=-1))


def continuation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    n_tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """The prompt with the text that a causal language model puts after it.

    Parameters
    ----------
    model, tokenizer : PreTrainedModel, PreTrainedTokenizerBase
        A causal language model and its tokenizer.
    prompt : str
        Beginning of the text.
    n_tokens : int, optional
        Number of tokens to add; fewer if the model ends the text.
    temperature : float, optional
        0 takes the most probable token each time; otherwise tokens are drawn.
    seed : int, optional
        Seed of the draws; torch's random state is left as it was.

    Returns
    -------
    str
    """
    import torch

    x = tokenizer(prompt, return_tensors="pt").to(model.device)
    choice: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        choice = {"do_sample": True, "temperature": temperature, "top_k": 0}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        y: Any = model.generate(  # type: ignore[operator]
            input_ids=x["input_ids"],
            attention_mask=x["attention_mask"],
            max_new_tokens=n_tokens,
            pad_token_id=tokenizer.pad_token_id,
            **choice,
        )
    return str(tokenizer.decode(y[0], skip_special_tokens=True))


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> NDArray[np.int64]:
    """Tokens of a text without special ones."""
    if tokenizer.bos_token_id is None:
        raise ArgumentError(f"{type(tokenizer).__name__} has no begin token, which the first prediction needs")
    encoded: Any = tokenizer(text, add_special_tokens=False, verbose=False)
    ids = np.asarray(encoded["input_ids"], dtype=np.int64)
    if not len(ids):
        raise TextError("found an empty text, wanted at least one token")
    return ids


def _nats(model: PreTrainedModel, windows: torch.Tensor, targets: torch.Tensor) -> float:
    """Sum of the losses of a batch of windows over the targets that are not -100."""
    import torch

    logits = model(input_ids=windows, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
    )
    return float(losses.double().sum())
