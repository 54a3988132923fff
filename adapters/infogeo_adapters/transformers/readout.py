"""From the residual stream to a prediction: final norm and unembedding of a model, found by running it.

What the modules are called differs from family to family, so nothing is looked up by name. A short text is run,
every module called after the last block is noted with what it was given and what it returned, and the path from
the last block's output to the logits is replayed. It counts as found only if, on another text, the replay gives
the model's own logits.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import logsumexp

from infogeo._checks import FloatArray
from infogeo.activations import LayerActivations
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.readout_search import is_current, search
from infogeo_adapters.transformers.replay import Scaling, Step, replay
from infogeo_adapters.transformers.stack import evaluating, find_stack
from infogeo_adapters.transformers.widening import Ready, widened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MEMORY = 128e6
"""Bytes that the logits of one chunk of tokens and their work space may take."""

FORMATS = ("float32", "float64")
"""Number formats to read out in, narrowest first."""

UserReadOut = Callable[["torch.Tensor"], "torch.Tensor"]
Projection = Callable[["torch.Tensor"], "torch.Tensor"]
"""From states (n, d) to logits (n, V)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadOut:
    """The way from a residual stream (T, d) to logits (T, V), in at least float32. Made by :func:`find_readout`."""

    path: tuple[str, ...]
    """Modules replayed, in order, by their names in the model."""
    scalings: tuple[str, ...]
    """What is done without a module, in order: factors on the way that were measured, such as ``x 0.25 before
    lm_head``, then what is done to the logits by a setting of the model's config or a tensor of the model, such as
    ``final_logit_softcapping`` or ``final_logits_bias``."""
    predicts: Literal["next", "itself"]
    """Whether the prediction at a token is of the next token (causal) or of the token itself (masked)."""
    max_difference: float | None
    """Largest difference to the model's own logits in the self-check, in the model's number format; None if there
    was none, because the read-out is the caller's own."""
    dtype: str
    """Number format of the read-out: the model's, or float32 if that is narrower, or what was asked for. Norms that
    always compute in float32, as Llama's does, do so here too."""
    quantized: tuple[str, ...] = ()
    """Modules on the way whose weights are quantized; plain ones with the same weights are used instead."""
    _steps: tuple[Step, ...] = field(repr=False)
    _scale: tuple[Scaling, ...] = field(repr=False)
    _lock: threading.RLock = field(repr=False)
    """That of the model, held while modules are switched to evaluation mode."""
    _narrow: torch.dtype = field(repr=False)
    """What the model computes in."""

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (T, V) of states (T, d), as differentiable torch operations on the model's own weights.

        Weights in half precision are widened for the call and released after it, as are quantized ones (through
        which no gradient comes back to the weights).
        """
        return self._call(self._ready(), states)

    def chunks(
        self, states: NDArray[np.floating[Any]], *, memory: float = MEMORY
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Logits of states (T, d) as float64, a few tokens at a time: pairs of the tokens' slice and (t, V).

        Raises
        ------
        ModelError
            If the states do not fit the read-out (another width), or it does not give one row for each token.
        DomainError
            If a logit is not finite.
        """
        ready = self._ready()
        start, size = 0, 1
        while start < len(states):
            where = slice(start, min(start + size, len(states)))
            logits = self._checked(ready, np.array(states[where]))
            if not np.isfinite(logits).all():
                token = start + int(np.argmin(np.isfinite(logits).all(axis=1)))
                raise DomainError(f"read-out: the logits of token {token} hold NaN or infinity")
            yield where, logits
            # 32 bytes: the logit in single and double precision, and two temporaries of the one who asked
            start, size = where.stop, max(1, int(memory // (32 * logits.shape[1])))

    @contextlib.contextmanager
    def session(self) -> Iterator[Projection]:
        """A function from states (n, d) to logits (n, V), torch tensors both, for many calls in a row.

        While the context is open the model's lock is held, its head is in evaluation mode, no gradients are kept, and
        weights in half precision or quantized are held widened; nothing is copied of a model whose weights have the
        read-out's format already. The logits are on the model's device in ``dtype``; they are not looked at, so
        NaN stays NaN.

        Yields
        ------
        callable
            Raises ModelError if the states do not fit (another width), or if it does not give one row for each.

        Examples
        --------
        >>> import torch
        >>> from infogeo_adapters import load_model
        >>> with find_readout(load_model()).session() as project:
        ...     logits = project(torch.zeros(2, 160))
        >>> logits.shape, logits.requires_grad
        (torch.Size([2, 4096]), False)
        """
        with self._quietly():
            yield functools.partial(self._project, self._ready())

    def _checked(self, ready: Ready, states: NDArray[Any]) -> FloatArray:
        import torch

        with self._quietly():
            logits = self._project(ready, torch.as_tensor(states))
        array: FloatArray = logits.cpu().double().numpy()
        return array

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """The model's lock, no gradients, and the modules in evaluation mode."""
        import torch

        # no_grad on the outside: what is entered later must be left earlier, or gradients stay switched off
        with self._lock, torch.no_grad(), contextlib.ExitStack() as modes:
            for step in self._steps:
                if isinstance(step.call, torch.nn.Module):
                    modes.enter_context(evaluating(step.call))
            yield

    def _project(self, ready: Ready, states: torch.Tensor) -> torch.Tensor:
        try:
            logits = self._call(ready, states)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelError(
                f"the read-out ({self._shown}) cannot be applied to states of shape {tuple(states.shape)}: {error}; "
                "give states (T, d) of the model's own width, and a read-out of torch tensors"
            ) from error
        if logits.ndim != 2 or len(logits) != len(states):
            raise ModelError(
                f"the read-out ({self._shown}) turned states {tuple(states.shape)} into {tuple(logits.shape)}, "
                "wanted (T, V), one row of logits for each token"
            )
        return logits

    def _call(self, ready: Ready, states: torch.Tensor) -> torch.Tensor:
        held = [p.device for s in self._steps for p in getattr(s.call, "parameters", tuple)()]
        device = held[0] if held else states.device
        return replay(ready.steps, self._scale, states.to(device, self._torch_dtype), ready.weights)

    @property
    def _shown(self) -> str:
        return ", ".join((*self.path, *self.scalings))

    @property
    def _torch_dtype(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _ready(self) -> Ready:
        return widened(self._steps, self._narrow, self._torch_dtype)


def find_readout(
    model: LanguageModel, *, readout: UserReadOut | None = None, dtype: str | None = None
) -> ReadOut:
    """Find the final norm and the unembedding of a model, and check them against the model's own logits.

    Parameters
    ----------
    model : LanguageModel
        A causal or masked language model.
    readout : callable, optional
        Your own way from states (T, d) to logits (T, V), torch tensors both; it is taken as it is, unchecked.
    dtype : {"float32", "float64"}, optional
        Number format to read out in, by default the model's, or float32 if that is narrower.

    Returns
    -------
    ReadOut
        Found once for each model and format, and kept as long as the model lives and has the same head.

    Raises
    ------
    ModelError
        If the model has no head that predicts tokens, or the replay differs from its logits (the message says by how
        much).
    ArgumentError
        If the format is no such format, or narrower than the model's.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = find_readout(load_model())
    >>> found.path, found.predicts, found.max_difference
    (('model.norm', 'lm_head'), 'next', 0.0)
    """
    wanted = _format(model, dtype)
    if readout is not None:
        return _own(model, readout, wanted)
    with lock_of(model.model):
        known = _found.setdefault(model, {})
        key = (str(model.model.dtype), wanted)
        if key not in known or not is_current(model.model, known[key]._steps):
            known[key] = _searched(model, wanted)
        return known[key]


def read_out(
    model: LanguageModel,
    activations: LayerActivations,
    layer: int,
    *,
    readout: ReadOut | UserReadOut | None = None,
    memory: float = MEMORY,
) -> FloatArray:
    """Log-probabilities of the prediction read out at one layer (logit lens), for each token.

    The residual stream after the block is put through the model's final norm and unembedding as if it were the
    last; the norm is computed afresh at every layer [1]_. Norm and head run in float32 or better, whatever the model
    runs in, the normalization in float64.

    Parameters
    ----------
    model : LanguageModel
        The one the activations were captured from.
    activations : LayerActivations
    layer : int
        0 is the embedding output, l after block l; negative ones count from the last.
    readout : callable or ReadOut, optional
        Used in place of the model's own.
    memory : float
        Bytes that one chunk of tokens may take beside the result.

    Returns
    -------
    ndarray, shape (T, V)
        Natural logarithms, float64; each row's exponentials sum to one.

    Raises
    ------
    ArgumentError
        If the layer does not exist, or the activations were captured from another model.
    ModelError
        If the model cannot be read out, see :func:`find_readout`.

    References
    ----------
    .. [1] nostalgebraist, "interpreting GPT: the logit lens", 2020; the norm at every layer as in N. Belrose et al.,
       "Eliciting latent predictions from transformers with the tuned lens", 2023.

    Examples
    --------
    >>> from infogeo_adapters import capture_activations, load_model
    >>> model = load_model()
    >>> acts = capture_activations(model, "The dog ran home.")
    >>> log_probs = read_out(model, acts, -1)
    >>> bool(np.allclose(np.exp(log_probs).sum(axis=1), 1.0))
    True
    """
    layer = activations.check_layer(layer)
    found = readout_for(model, activations, readout)
    log_probs = np.empty((0, 0))
    for where, logits in found.chunks(activations.hidden_states[layer], memory=memory):
        if where.start == 0:
            log_probs = np.empty((len(activations.tokens), logits.shape[1]))
        np.subtract(logits, logsumexp(logits, axis=1, keepdims=True), out=log_probs[where])
    return log_probs


def readout_for(
    model: LanguageModel, activations: LayerActivations, readout: ReadOut | UserReadOut | None
) -> ReadOut:
    """The read-out to use: the caller's, or the model's own if the activations are this model's."""
    if isinstance(readout, ReadOut):
        return readout
    if readout is not None:
        return find_readout(model, readout=readout)
    if activations.source.options.get("side") == "encoder":
        raise ModelError(
            "the activations are of an encoder, which predicts nothing by itself; capture both stacks with "
            "capture_encoder_decoder(model, text, target)"
        )
    here, there = model.current_source().content_hash, activations.source.content_hash
    if here != there and here is not None and there is not None:
        raise ArgumentError(
            f"the activations were captured from {activations.source.model} (hash {there[:12]}), but the model given "
            f"is {model.name} (hash {here[:12]}); read them out with their own model, or pass readout= (if its weights "
            "were changed meanwhile, capture again)"
        )
    found = find_readout(model)
    depth = find_stack(model.model, "decoder").depth
    if activations.n_layers != depth:
        raise ArgumentError(
            f"the activations have {activations.n_layers} blocks, the stack of {model.name} that predicts has {depth}; "
            "read them out with the model they were captured from"
        )
    return found


# Finding it

_found: weakref.WeakKeyDictionary[LanguageModel, dict[tuple[str, str], ReadOut]] = weakref.WeakKeyDictionary()
"""By the model's number format and that of the read-out."""


def _format(model: LanguageModel, dtype: str | None) -> str:
    """Name of the number format to read out in."""
    import torch

    least = str(torch.promote_types(model.model.dtype, torch.float32)).removeprefix("torch.")
    if dtype is None:
        return least
    if dtype not in FORMATS:
        raise ArgumentError(f"dtype: found {dtype!r}, wanted one of {', '.join(FORMATS)}, or None for {least}")
    if FORMATS.index(dtype) < FORMATS.index(least):
        raise ArgumentError(
            f"dtype: found {dtype!r}, but {model.name} computes in {least}, which would be narrowed; leave dtype out"
        )
    return dtype


def _searched(model: LanguageModel, dtype: str) -> ReadOut:
    import torch

    net = model.model
    stack = find_stack(net, "decoder")
    found = search(model, stack, getattr(torch, dtype))
    factors = (f"x {s.factor:.6g} before {s.name}" for s in found.steps if s.factor != 1.0)
    return ReadOut(
        path=tuple(s.name for s in found.steps), scalings=(*factors, *found.after),
        predicts="next" if stack.causal else "itself", max_difference=found.difference, dtype=dtype,
        quantized=found.quantized, _steps=found.steps, _scale=tuple(found.after.values()), _lock=lock_of(net),
        _narrow=net.dtype,
    )


def _own(model: LanguageModel, readout: UserReadOut, dtype: str) -> ReadOut:
    if not callable(readout):
        raise ArgumentError(f"readout: found {type(readout).__name__}, wanted a function from states (T, d) to logits")
    net = model.model
    name = getattr(readout, "__name__", type(readout).__name__)
    step = Step(name, lambda states: readout(states[0].to(net.device))[None], (None,), {}, 0)
    return ReadOut(
        path=(name,), scalings=(), predicts="next" if find_stack(net, "decoder").causal else "itself",
        max_difference=None, dtype=dtype, _steps=(step,), _scale=(), _lock=lock_of(net), _narrow=net.dtype,
    )
