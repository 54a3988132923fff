"""A fitted tuned lens: affine translators by layer, kept in a file that knows which model's read-out they are for."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, check_shape, sealed
from infogeo.errors import ArgumentError, DomainError, FormatError, InfogeoError, ModelError, ShapeError
from infogeo.results import Result, Source, to_plain
from infogeo_adapters._tuned_files import hash_of_readout, read_tensors, write_tensors
from infogeo_adapters._tuned_streams import reader_of
from infogeo_adapters._tuned_training import translated
from infogeo_adapters.transformers.loading import LanguageModel

if TYPE_CHECKING:
    import torch

KIND = "infogeo tuned lens"
ARRAYS = {
    "weights": ("f", 3), "biases": ("f", 2), "layers": ("i", 1), "kept_at": ("i", 1), "training_kl": ("f", 2),
    "evaluated_at": ("i", 1), "validation_kl": ("f", 2),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class TunedLens(Result):
    r"""Affine translators :math:`h \mapsto h + A_l h + b_l`, one for each of n layers of a model of width d."""

    weights: NDArray[np.float32]
    """(n, d, d) the A of each layer."""
    biases: NDArray[np.float32]
    """(n, d) the b."""
    layers: tuple[int, ...]
    """Numbers of the layers that have a translator, rising; the last layer of the model never has."""
    n_layers: int
    """Blocks of the model, which is the number of its last layer."""
    unembedding_hash: str
    """SHA-256 of the weights of all modules from the last state to the logits; see :meth:`check`."""
    training_kl: FloatArray
    """(S, n) mean KL(final prediction || lens) in nats on the tokens of each step, before the step."""
    evaluated_at: IntArray
    """(E,) steps after which the held-out texts were looked at, 0 first."""
    validation_kl: FloatArray
    """(E, n) mean KL(final prediction || lens) in nats over the tokens of the held-out texts; row 0 is the plain logit
    lens."""
    kept_at: IntArray
    """(n,) the step whose translator was kept: the best of its layer on the held-out texts."""
    stopped: str
    """What ended the training: ``steps`` (all were done) or ``patience``."""
    source: Source
    name: str = "tuned_lens"

    def __post_init__(self) -> None:
        n, d = len(self.layers), np.shape(self.biases)[-1]
        shapes: dict[str, tuple[Any, tuple[int | None, ...]]] = {
            "weights": (np.float32, (n, d, d)), "biases": (np.float32, (n, d)), "training_kl": (np.float64, (None, n)),
            "evaluated_at": (np.int64, (None,)), "kept_at": (np.int64, (n,)),
            "validation_kl": (np.float64, (len(self.evaluated_at), n)),
        }
        for field, (dtype, shape) in shapes.items():
            array = np.array(getattr(self, field), dtype=dtype)
            check_shape(field, array, shape)
            if not np.isfinite(array).all():
                raise DomainError(f"{field}: found NaN or infinity, wanted finite numbers")
            object.__setattr__(self, field, sealed(array))
        if not n or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0 or (
            self.layers[-1] >= self.n_layers
        ):
            raise ArgumentError(
                f"layers: found {self.layers}, wanted rising numbers from 0 to {self.n_layers - 1} (the last layer, "
                f"{self.n_layers}, has no translator)"
            )

    @property
    def width(self) -> int:
        """Components of a state."""
        return int(self.biases.shape[1])

    @property
    def held_out_kl(self) -> FloatArray:
        """(n,) the divergence in nats of the kept translators on the held-out texts, which also chose them."""
        return np.asarray(self.validation_kl.min(axis=0))

    def translate(self, layer: int, states: torch.Tensor) -> torch.Tensor:
        """What the states of a layer would be after the last block, as far as an affine map can say.

        Parameters
        ----------
        layer : int
            From 0, the embedding, to the number of blocks, where the states come back as they are.
        states : torch.Tensor, shape (n, d)
            In half precision they are widened to float32.

        Returns
        -------
        torch.Tensor, shape (n, d)
            Differentiable for the states.

        Raises
        ------
        ArgumentError
            The layer has no translator, or the states are no tensor.
        ShapeError
            The states have another width.
        """
        import torch

        if not isinstance(states, torch.Tensor):
            raise ArgumentError(f"states: found {type(states).__name__}, wanted a torch.Tensor; use torch.as_tensor")
        if states.ndim != 2 or states.shape[1] != self.width:
            raise ShapeError(
                f"states: found shape {tuple(states.shape)}, wanted (n, {self.width}), the width of the model of this "
                "tuned lens"
            )
        if layer == self.n_layers:
            return states
        if layer not in self.layers:
            raise ArgumentError(
                f"layer: found {layer!r}, this tuned lens has translators for {', '.join(map(str, self.layers))}, and "
                f"{self.n_layers} needs none; fit it with layers=... for others"
            )
        i = self.layers.index(layer)
        wide = states.to(torch.promote_types(states.dtype, torch.float32))
        weight, bias = (torch.tensor(part[i], dtype=wide.dtype, device=wide.device)
                        for part in (self.weights, self.biases))
        return translated(wide, weight, bias)

    def check(self, model: LanguageModel) -> None:
        """Raise a ModelError unless the lens fits a model: the same read-out, number of blocks and width.

        What comes before the read-out is not compared: a fine-tuned model whose unembedding was left as it was may be
        read with the lens of its base, and :func:`~infogeo_adapters.lens_quality` says what that is worth.
        ``source.content_hash`` says which model it was fitted to.

        Parameters
        ----------
        model : LanguageModel
        """
        reader = reader_of(model)
        found = hash_of_readout(model, reader.readout)
        if found != self.unembedding_hash:
            raise ModelError(
                f"this tuned lens was fitted to {self.source.model!r}, whose read-out has the hash "
                f"{self.unembedding_hash}; that of {model.name!r} is {found}: load the model it was fitted to, or fit "
                "another with fit_tuned_lens(model, texts)"
            )
        if reader.stack.depth != self.n_layers:
            raise ModelError(
                f"this tuned lens is for {self.n_layers} blocks, {model.name!r} has {reader.stack.depth}; load the "
                "model it was fitted to, or fit another with fit_tuned_lens(model, texts)"
            )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the lens to one safetensors file, completely or not at all; a file that exists is replaced.

        Parameters
        ----------
        path : path

        Returns
        -------
        Path
            The file, to be read with :func:`load_tuned_lens`.

        Raises
        ------
        ArgumentError
            The path is none.
        OutputError
            The file cannot be written; one that was there is left as it was.
        """
        tensors = {name: np.asarray(getattr(self, name)) for name in ARRAYS}
        facts = {
            "n_layers": self.n_layers, "unembedding_hash": self.unembedding_hash, "stopped": self.stopped,
            "source": to_plain(self.source), "name": self.name,
        }
        return write_tensors(path, KIND, tensors, facts)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("layer", "plain_kl", "tuned_kl", "kept_at")
        return columns, [
            (layer, float(self.validation_kl[0, i]), float(self.held_out_kl[i]), int(self.kept_at[i]))
            for i, layer in enumerate(self.layers)
        ]

    def summary(self) -> str:
        return (
            f"tuned lens of {self.source.model}, {len(self.layers)} layers, held-out KL from the final prediction "
            f"{self.validation_kl[0].mean():.3g} -> {self.held_out_kl.mean():.3g} nats in {len(self.training_kl)} steps"
        )


def load_tuned_lens(path: str | os.PathLike[str], model: LanguageModel) -> TunedLens:
    """Read a tuned lens and make sure that it is for this model.

    Parameters
    ----------
    path : path
        A file of :meth:`TunedLens.save`.
    model : LanguageModel
        The model it will be used with. Its read-out (final norm, unembedding, scalings) must have the numbers of the
        one the lens was fitted to, and it must have as many blocks; see :meth:`TunedLens.check`.

    Returns
    -------
    TunedLens

    Raises
    ------
    ArgumentError
        There is no such file.
    FormatError
        The file is damaged, is something else, or is of another version.
    ModelError
        It is another model's.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo_adapters import fit_tuned_lens, load_model
    >>> model = load_model()
    >>> lens = fit_tuned_lens(model, ["The dog ran home.", "The cat sat still.", "A bird sang."], steps=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load_tuned_lens(lens.save(folder + "/lens.safetensors"), model)
    >>> bool((again.weights == lens.weights).all())
    True
    """
    arrays, facts = read_tensors(path, KIND, ARRAYS)
    try:
        fields = {field.name for field in dataclasses.fields(Source)}
        lens = TunedLens(
            layers=tuple(arrays.pop("layers").tolist()), **{k: v for k, v in arrays.items() if k in ARRAYS},
            n_layers=int(facts["n_layers"]), unembedding_hash=str(facts["unembedding_hash"]),
            stopped=str(facts["stopped"]), name=str(facts["name"]),
            source=Source(**{k: v for k, v in facts["source"].items() if k in fields}),
        )
    except (InfogeoError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{Path(path).name} is damaged ({error}); copy it again, or fit a new one with fit_tuned_lens(model, texts)"
        ) from error
    lens.check(model)
    return lens
