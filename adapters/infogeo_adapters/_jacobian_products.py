"""Products of the Jacobian of a torch module with vectors, micro-batch by micro-batch; the matrix is never formed.

The map is from chosen parameters of a module, strung together to one vector, to its outputs. Each product runs the
module in evaluation mode under its lock, with attention computed by plain matrix products: the fused attention of
torch has neither a forward-mode derivative nor a second backward pass.
"""

from __future__ import annotations

import contextlib
import fnmatch
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError
from infogeo_adapters.transformers.alignment import check_text, encode
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import evaluating, quiet

if TYPE_CHECKING:
    import torch

Differentiation = Literal["forward", "double_backward"]
Filter = str | Sequence[str] | Callable[[str], bool] | None

REFUSALS = ("forward AD", "is not implemented", "setup_context", "functorch", "does not require grad")
"""What the messages of torch say where an operation has not the derivative that was asked for."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, ready for the module."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    targets: torch.Tensor | None = None
    next_token: bool = False
    """Whether the last position predicts nothing, as in a text whose next tokens are the targets."""


class Jacobian:
    """The map from chosen parameters to the outputs of a module on given micro-batches, and its derivative.

    Parameters
    ----------
    module : torch.nn.Module
    names : sequence of str
        Which parameters, in the order in which they are strung together.
    batches : sequence of Batch
    finish : callable
        (output (samples, ..., m), batch) to what is differentiated, a tensor of two axes.
    differentiation : {'forward', 'double_backward'}
    """

    def __init__(
        self, module: torch.nn.Module, names: Sequence[str], batches: Sequence[Batch],
        finish: Callable[[Any, Batch], Any], differentiation: Differentiation,
    ) -> None:
        self.module, self.names, self.batches, self.finish = module, tuple(names), tuple(batches), finish
        self.differentiation = differentiation
        every = {name: p.detach() for name, p in module.named_parameters()}
        self.chosen = {name: every.pop(name) for name in self.names}
        self.fixed = every
        self.shapes = tuple(tuple(p.shape) for p in self.chosen.values())
        self.sizes = tuple(p.numel() for p in self.chosen.values())
        self.size = sum(self.sizes)
        self._stamp = _stamp(module)

    @property
    def device(self) -> torch.device:
        """Where the first of the chosen parameters lies."""
        return next(iter(self.chosen.values())).device

    @property
    def single(self) -> bool:
        """Whether a chosen parameter has fewer digits than float64."""
        return any(p.dtype.itemsize < 8 for p in self.chosen.values())

    def split(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """A vector (n,) as the parameters it is made of, in their own formats."""
        pieces = vector.split(self.sizes)  # type: ignore[no-untyped-call]  # untyped in torch
        parts = zip(self.chosen.items(), pieces, strict=True)
        return {name: piece.reshape(p.shape).to(p.device, p.dtype) for (name, p), piece in parts}

    def join(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The inverse of :meth:`split`, in float64."""
        import torch

        return torch.cat([parts[name].detach().reshape(-1).to(self.device, torch.float64) for name in self.names])

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The module as every product needs it, and as it was afterwards; what torch cannot do is said clearly."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        fast = torch.backends.mha.get_fastpath_enabled()
        with contextlib.ExitStack() as scope:
            scope.enter_context(lock_of(self.module))
            if _stamp(self.module) != self._stamp:
                raise ModelError(
                    "the parameters of the module were changed after the operator was made, which belongs to their "
                    "old values; make a new one"
                )
            scope.enter_context(evaluating(self.module))
            scope.enter_context(sdpa_kernel([SDPBackend.MATH]))
            scope.enter_context(warnings.catch_warnings())  # torch warns of itself at the first forward-mode derivative
            warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
            if type(self.module).__module__.startswith("transformers."):
                scope.enter_context(quiet())
            torch.backends.mha.set_fastpath_enabled(False)  # it has no derivative
            scope.callback(torch.backends.mha.set_fastpath_enabled, fast)
            try:
                yield
            except (NotImplementedError, RuntimeError) as error:
                if isinstance(error, ModelError) or not any(words in str(error) for words in REFUSALS):
                    raise
                other = "double_backward" if self.differentiation == "forward" else "forward"
                raise ModelError(
                    f"{type(self.module).__name__} has an operation without the derivative that "
                    f"differentiation={self.differentiation!r} needs ({str(error).splitlines()[0]}); try "
                    f"differentiation={other!r}, or load the model with another implementation of that operation "
                    "(attn_implementation='eager' for attention)"
                ) from error

    def call(self, batch: Batch) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
        """The map for one micro-batch."""
        from torch.func import functional_call

        def run(chosen: dict[str, torch.Tensor]) -> torch.Tensor:
            value = functional_call(self.module, {**self.fixed, **chosen}, batch.args, dict(batch.kwargs))
            result: torch.Tensor = self.finish(_tensor_of(value, self.module), batch)
            return result

        return run

    def outputs(self) -> Iterator[torch.Tensor]:
        """What the map gives at the parameters as they are, micro-batch by micro-batch."""
        for batch in self.batches:
            yield self.call(batch)(self.chosen).detach()

    def forward(self, batch: Batch, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs of a micro-batch, and the product of its Jacobian with a vector (n,)."""
        import torch
        from torch.func import jvp, vjp

        run, direction = self.call(batch), self.split(vector)
        output: torch.Tensor
        moved: torch.Tensor
        if self.differentiation == "forward":
            output, moved = jvp(run, (self.chosen,), (direction,))[:2]
        else:  # the map w to J^T w is linear, and its transpose is J
            output, back = vjp(run, self.chosen)[:2]
            transposed = vjp(lambda w: back(w)[0], torch.zeros_like(output))[1]
            (moved,) = transposed(direction)
        return output.detach(), moved.detach()

    def backward(self, batch: Batch) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """The outputs of a micro-batch, and the function w to the product of the transposed Jacobian with w."""
        from torch.func import vjp

        output, back = vjp(self.call(batch), self.chosen)[:2]

        def pull(w: torch.Tensor) -> torch.Tensor:
            return self.join(back(w.to(output.dtype))[0])

        return output.detach(), pull


def choose_parameters(module: torch.nn.Module, parameters: Filter) -> tuple[str, ...]:
    """Names of the parameters that a filter selects, in the order of the module.

    Raises
    ------
    ArgumentError
        If it selects none.
    DomainError
        If one of them holds no real floating-point numbers.
    """
    held = dict(module.named_parameters())
    if parameters is None:
        names = [name for name, p in held.items() if p.requires_grad]
    elif callable(parameters):
        names = [name for name in held if parameters(name)]
    else:
        patterns = [parameters] if isinstance(parameters, str) else list(parameters)
        missed = [pattern for pattern in patterns if not fnmatch.filter(held, pattern)]
        if missed:
            shown = ", ".join(list(held)[:6]) + (", ..." if len(held) > 6 else "")
            raise ArgumentError(
                f"parameters: no parameter is named {missed[0]!r}; the {len(held)} there are: {shown or 'none'} "
                "(* stands for anything, as in '*.mlp.*')"
            )
        names = [name for name in held if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not names:
        raise ArgumentError(
            f"parameters: none of the {len(held)} parameters of {type(module).__name__} was selected"
            + (" (none of them requires a gradient)" if parameters is None and held else "")
        )
    for name in names:
        if not held[name].is_floating_point():
            raise DomainError(f"parameters: {name} holds {held[name].dtype}, wanted real floating-point numbers")
    return tuple(names)


def make_batches(module: Any, inputs: Any, targets: Any, batch_size: int) -> tuple[torch.nn.Module, list[Batch]]:
    """The torch module behind ``module``, and its inputs in micro-batches.

    Raises
    ------
    ArgumentError, ShapeError, TextError
        If the inputs do not fit.
    """
    import torch

    if isinstance(module, LanguageModel):
        if targets is not None:
            raise ArgumentError("targets: those of a LanguageModel are the next tokens of its texts; leave it out")
        return module.model, list(_text_batches(module, inputs, batch_size))
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(f"module: found {type(module).__name__}, wanted a torch.nn.Module or a LanguageModel")
    return module, list(_tensor_batches(inputs, targets, batch_size))


def _text_batches(model: LanguageModel, texts: Any, batch_size: int) -> Iterator[Batch]:
    """Texts of one length together, so that nothing is padded."""
    import torch

    if model.kind != "decoder" or not model.has_head:
        raise ModelError(
            f"{model.name} is no causal language model with a head, so a text has no next-token predictions; pass the "
            "module itself with tensors: generalized_gauss_newton(model.model, {'input_ids': ..., ...})"
        )
    rows: list[list[int]] = []
    for text in [texts] if isinstance(texts, str) else list(texts):
        ids = encode(model.tokenizer, check_text(text)).ids.tolist()
        limit = model.context_length
        if len(ids) < 2 or (limit is not None and len(ids) > limit):
            raise ArgumentError(
                f"inputs: the text {text[:30]!r} has {len(ids)} tokens, wanted from 2 to {limit or 'any number'}; "
                "split_into_windows cuts a long one"
            )
        rows.append(ids)
    if not rows:
        raise ArgumentError("inputs: found no texts, wanted at least one")
    for length in sorted({len(row) for row in rows}):
        same = [row for row in rows if len(row) == length]
        for start in range(0, len(same), batch_size):
            ids_ = torch.tensor(same[start : start + batch_size], device=model.model.device)
            kwargs = {"input_ids": ids_, "attention_mask": torch.ones_like(ids_), "use_cache": False}
            yield Batch(args=(), kwargs=kwargs, targets=ids_[:, 1:], next_token=True)


def _tensor_batches(inputs: Any, targets: Any, batch_size: int) -> Iterator[Batch]:
    import torch

    named = isinstance(inputs, Mapping)
    parts: dict[Any, Any] = (
        dict(inputs) if named else dict(enumerate(inputs if isinstance(inputs, tuple) else (inputs,)))
    )
    lengths = {key: len(x) for key, x in parts.items() if isinstance(x, torch.Tensor) and x.ndim}
    if not lengths:
        raise ArgumentError(
            "inputs: found no tensor with an axis of samples; give a tensor (samples, ...), a tuple of them or a "
            "mapping of keywords to them"
        )
    total = next(iter(lengths.values()))
    if targets is not None:
        if not isinstance(targets, torch.Tensor) or not targets.ndim:
            raise ArgumentError(f"targets: found {type(targets).__name__}, wanted a tensor (samples, ...)")
        lengths["targets"] = len(targets)
    if set(lengths.values()) != {total} or total == 0:
        raise ShapeError(f"inputs: found numbers of samples {lengths}, wanted one number of at least 1")
    for start in range(0, total, batch_size):
        rows = slice(start, start + batch_size)
        cut = {key: x[rows] if key in lengths else x for key, x in parts.items()}
        aim = None if targets is None else targets[rows]
        if named:
            yield Batch(args=(), kwargs=cut, targets=aim)
        else:
            yield Batch(args=tuple(cut.values()), kwargs={}, targets=aim)


def _tensor_of(value: Any, module: Any) -> torch.Tensor:
    """The tensor of outputs in what a module returned."""
    import torch

    found = value if isinstance(value, torch.Tensor) else getattr(value, "logits", None)
    if not isinstance(found, torch.Tensor):
        raise ModelError(
            f"{type(module).__name__} returned {type(value).__name__}, wanted a tensor (samples, ..., outputs) or an "
            "object with logits; wrap the module in one that returns the outputs"
        )
    return found


def as_vector(name: str, value: Any, jacobian: Jacobian) -> torch.Tensor:
    """A vector (n,) in float64 from an array, a tensor or a mapping of names to tensors.

    Raises
    ------
    ShapeError, DomainError, ArgumentError
        If it does not fit or is not finite.
    """
    import torch

    if isinstance(value, Mapping):
        if set(value) != set(jacobian.names):
            odd = sorted(set(value) ^ set(jacobian.names))
            raise ArgumentError(
                f"{name}: the names are not those of the {len(jacobian.names)} chosen parameters; {odd[0]!r} is in "
                "one of the two only"
            )
        for key, shape in zip(jacobian.names, jacobian.shapes, strict=True):
            if not isinstance(value[key], torch.Tensor) or tuple(value[key].shape) != shape:
                raise ShapeError(f"{name}: {key} is not a tensor of shape {shape}")
        vector = jacobian.join(value)
    elif isinstance(value, torch.Tensor):
        vector = value.detach().to(jacobian.device, torch.float64)
    else:
        vector = torch.as_tensor(np.array(value, dtype=np.float64), device=jacobian.device)
    if tuple(vector.shape) != (jacobian.size,):
        raise ShapeError(f"{name}: found shape {tuple(vector.shape)}, wanted ({jacobian.size},)")
    if not bool(vector.isfinite().all()):
        raise DomainError(f"{name}: found NaN or infinity, wanted finite numbers")
    return vector


def to_array(vector: torch.Tensor) -> FloatArray:
    """A tensor as a NumPy array of float64."""
    return np.asarray(vector.detach().cpu().numpy(), dtype=np.float64)


def _stamp(module: torch.nn.Module) -> tuple[tuple[int, int], ...]:
    """Where each tensor of a module is and how often it was changed."""
    tensors = (*module.parameters(), *module.buffers())
    return tuple((t.data_ptr(), -1 if t.is_inference() else t._version) for t in tensors)
