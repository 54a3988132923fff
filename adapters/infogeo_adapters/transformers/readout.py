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
from infogeo_adapters.transformers.replay import (
    OWN,
    Scaling,
    Step,
    find_bias,
    find_path,
    find_scalings,
    ordinary_ids,
    replay,
    run_noted,
)
from infogeo_adapters.transformers.stack import evaluating, find_stack

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MEMORY = 128e6
"""Bytes that the logits of one chunk of tokens and their work space may take."""

EXACT = 4
"""The replay may differ from the model's logits by this many units of rounding of the largest logit."""
CLOSE = 8
"""The same for the replay in float32 of a model that computes in half precision, in the model's units of rounding."""

UserReadOut = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadOut:
    """The way from a residual stream (T, d) to logits (T, V), in at least float32. Made by :func:`find_readout`."""

    path: tuple[str, ...]
    """Modules replayed, in order, by their names in the model."""
    scalings: tuple[str, ...]
    """Settings of the model's config applied to the logits, in order, such as ``final_logit_softcapping``."""
    predicts: Literal["next", "itself"]
    """Whether the prediction at a token is of the next token (causal) or of the token itself (masked)."""
    max_difference: float | None
    """Largest difference to the model's own logits in the self-check, in the model's number format; None if there
    was none, because the read-out is the caller's own."""
    dtype: str
    """Number format of the read-out: the model's, or float32 if that is narrower."""
    _steps: tuple[Step, ...] = field(repr=False)
    _scale: tuple[Scaling, ...] = field(repr=False)
    _lock: threading.RLock = field(repr=False)
    """That of the model, held while modules are switched to evaluation mode."""

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (T, V) of states (T, d), as differentiable torch operations on the model's own weights.

        Weights in half precision are widened for the call and released after it.
        """
        return self._call(self._wide_weights(), states)

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
        weights = self._wide_weights()
        start, size = 0, 1
        while start < len(states):
            where = slice(start, min(start + size, len(states)))
            logits = self._checked(weights, np.array(states[where]))
            if not np.isfinite(logits).all():
                token = start + int(np.argmin(np.isfinite(logits).all(axis=1)))
                raise DomainError(f"read-out: the logits of token {token} hold NaN or infinity")
            yield where, logits
            # 32 bytes: the logit in single and double precision, and two temporaries of the one who asked
            start, size = where.stop, max(1, int(memory // (32 * logits.shape[1])))

    def _checked(self, weights: list[dict[str, torch.Tensor] | None], states: NDArray[Any]) -> FloatArray:
        import torch

        shown = ", ".join((*self.path, *self.scalings))
        # no_grad on the outside: what is entered later must be left earlier, or gradients stay switched off
        with self._lock, torch.no_grad(), contextlib.ExitStack() as modes:
            for step in self._steps:
                if isinstance(step.call, torch.nn.Module):
                    modes.enter_context(evaluating(step.call))
            try:
                logits = self._call(weights, torch.as_tensor(states))
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise ModelError(
                    f"the read-out ({shown}) cannot be applied to states of shape {states.shape}: {error}; "
                    "give states (T, d) of the model's own width"
                ) from error
        if logits.ndim != 2 or len(logits) != len(states):
            raise ModelError(
                f"the read-out ({shown}) turned states {states.shape} into {tuple(logits.shape)}, "
                "wanted (T, V), one row of logits for each token"
            )
        array: FloatArray = logits.cpu().double().numpy()
        return array

    def _call(self, weights: list[dict[str, torch.Tensor] | None], states: torch.Tensor) -> torch.Tensor:
        held = [p.device for s in self._steps for p in getattr(s.call, "parameters", tuple)()]
        device = held[0] if held else states.device
        return replay(self._steps, self._scale, states.to(device, self._torch_dtype), weights)

    @property
    def _torch_dtype(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _wide_weights(self) -> list[dict[str, torch.Tensor] | None]:
        return [_wide_weights(step.call, self._torch_dtype) for step in self._steps]


def find_readout(model: LanguageModel, *, readout: UserReadOut | None = None) -> ReadOut:
    """Find the final norm and the unembedding of a model, and check them against the model's own logits.

    Parameters
    ----------
    model : LanguageModel
        A causal or masked language model.
    readout : callable, optional
        Your own way from states (T, d) to logits (T, V), torch tensors both; it is taken as it is, unchecked.

    Returns
    -------
    ReadOut
        Found once for each model and kept as long as the model lives.

    Raises
    ------
    ModelError
        If the model has no head that predicts tokens, has two stacks, or the replay differs from its logits (the
        message says by how much).

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = find_readout(load_model())
    >>> found.path, found.predicts, found.max_difference
    (('model.norm', 'lm_head'), 'next', 0.0)
    """
    if readout is not None:
        return _own(model, readout)
    with lock_of(model.model):
        if model not in _found:
            _found[model] = _find(model)
        return _found[model]


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
    rows = [
        (where, logits - logsumexp(logits, axis=1, keepdims=True))
        for where, logits in found.chunks(activations.hidden_states[layer], memory=memory)
    ]
    log_probs = np.empty((len(activations.tokens), rows[0][1].shape[1]))
    for where, part in rows:
        log_probs[where] = part
    return log_probs


def readout_for(
    model: LanguageModel, activations: LayerActivations, readout: ReadOut | UserReadOut | None
) -> ReadOut:
    """The read-out to use: the caller's, or the model's own if the activations are this model's."""
    if isinstance(readout, ReadOut):
        return readout
    if readout is not None:
        return find_readout(model, readout=readout)
    here, there = model.current_source().content_hash, activations.source.content_hash
    if here != there and here is not None and there is not None:
        raise ArgumentError(
            f"the activations were captured from {activations.source.model} (hash {there[:12]}), but the model given "
            f"is {model.name} (hash {here[:12]}); read them out with their own model, or pass readout= (if its weights "
            "were changed meanwhile, capture again)"
        )
    found = find_readout(model)
    if activations.n_layers != model.n_layers:
        raise ArgumentError(
            f"the activations have {activations.n_layers} blocks, the model {model.name} has {model.n_layers}; "
            "read them out with the model they were captured from"
        )
    return found


# Finding it

_found: weakref.WeakKeyDictionary[LanguageModel, ReadOut] = weakref.WeakKeyDictionary()


def _find(model: LanguageModel) -> ReadOut:
    import torch

    net = model.model
    stack = find_stack(net, "decoder")
    ids = ordinary_ids(model)
    with evaluating(net):
        steps = find_path(model, run_noted(model, stack, ids))
        check = run_noted(model, stack, torch.cat([ids.flip(1), ids[:, 1:3]], dim=1))
        scale = max(1.0, float(check.logits.abs().max()))
        unit = torch.finfo(net.dtype).eps * scale
        settings = find_scalings(net.config.get_text_config())
        tried = []
        # some models name a scaling in their config and do not apply it: what fits is measured
        for chosen in (settings, {}):
            names, scalings = tuple(chosen), tuple(chosen.values())
            replayed = functools.partial(replay, steps, scalings, check.states, None)
            tried.append((_difference(model, steps, replayed, check.logits), names, scalings))
            bias = find_bias(model, replayed(), check.logits)
            if bias:
                replayed = functools.partial(replay, steps, (*scalings, *bias.values()), check.states, None)
                tried.append((
                    _difference(model, steps, replayed, check.logits), (*names, *bias), (*scalings, *bias.values())
                ))
        difference, names, scalings = min(tried, key=lambda t: t[0])
        _accept(model, steps, difference, EXACT * unit)
        found = ReadOut(
            path=tuple(s.name for s in steps), scalings=names, predicts="next" if stack.causal else "itself",
            max_difference=difference, dtype=str(_wide(net.dtype)).removeprefix("torch."),
            _steps=steps, _scale=scalings, _lock=lock_of(net),
        )
        if _wide(net.dtype) != net.dtype:
            widened = functools.partial(found.logits, check.states)
            _accept(model, steps, _difference(model, steps, widened, check.logits), CLOSE * unit)
    return found


def _own(model: LanguageModel, readout: UserReadOut) -> ReadOut:
    if not callable(readout):
        raise ArgumentError(f"readout: found {type(readout).__name__}, wanted a function from states (T, d) to logits")
    net = model.model
    name = getattr(readout, "__name__", type(readout).__name__)
    step = Step(name, lambda states: readout(states[0].to(net.device))[None], (None,), {}, 0)
    return ReadOut(
        path=(name,), scalings=(), predicts="next" if find_stack(net, "decoder").causal else "itself", max_difference=None,
        dtype=str(_wide(net.dtype)).removeprefix("torch."), _steps=(step,), _scale=(), _lock=lock_of(net),
    )


def _difference(
    model: LanguageModel, steps: tuple[Step, ...], replayed: Callable[[], torch.Tensor], logits: torch.Tensor
) -> float:
    """Largest difference between the logits of a replay and the model's own; infinite for another shape or NaN."""
    try:
        found = replayed()
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the read-out found for {_shown(model, steps)} cannot be replayed on another text "
            f"({type(error).__name__}: {error}); load the model with dtype='float32' if it computes in half precision, "
            f"or pass {OWN}"
        ) from error
    if found.shape != logits.shape:
        return float("inf")
    difference = float((found.cpu().double() - logits.cpu().double()).abs().max())
    return difference if difference == difference else float("inf")


def _accept(model: LanguageModel, steps: tuple[Step, ...], difference: float, allowed: float) -> None:
    if not difference <= allowed:
        raise ModelError(
            f"the read-out found for {_shown(model, steps)} does not give the model's own logits: they differ by up "
            f"to {difference:.3g}, allowed is {allowed:.3g}; something else happens on the way, so pass {OWN}"
        )


def _shown(model: LanguageModel, steps: tuple[Step, ...]) -> str:
    return f"{model.name} ({type(model.model).__name__}: {', '.join(s.name for s in steps)})"


def _wide(dtype: torch.dtype) -> torch.dtype:
    import torch

    return torch.promote_types(dtype, torch.float32)


def _wide_weights(call: Any, dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """Weights and buffers in the given format, None if they are in it already."""
    import torch

    if not isinstance(call, torch.nn.Module):
        return None
    own = {**dict(call.named_parameters()), **dict(call.named_buffers())}
    if all(t.dtype == dtype for t in own.values() if t.is_floating_point()):
        return None
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in own.items()}
