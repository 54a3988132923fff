"""Whether weights and config.json belong together: what loading reported, turned into an error or a count."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import InfogeoError, MissingDependencyError, ModelError
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.stack import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PICKLE_STARTS = (b"PK", b"\x80")
"""How a file of torch.save and a plain pickle begin."""
NO_HALF = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
"""Kinds of models whose feed-forward layers overflow in float16."""


def check_fit(folder: Path, model: PreTrainedModel, info: Mapping[str, Any]) -> int:
    """Number of weights that the model does not use, all of them outside its blocks.

    Parameters
    ----------
    folder : Path
        For the message.
    model : PreTrainedModel
    info : mapping
        What ``from_pretrained(..., output_loading_info=True)`` gives beside the model.

    Returns
    -------
    int

    Raises
    ------
    ModelError
        Tensors have other shapes than the config wants, are missing, or belong to blocks that the model has not.
    """
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, found, wanted = mismatched[0]
        others = f" (and {len(mismatched) - 1} more tensors differ)" if len(mismatched) > 1 else ""
        raise ModelError(
            f"the weights in {folder} cannot be loaded: {name!r} has the shape {tuple(found)} in the file, and "
            f"config.json wants {tuple(wanted)}{others}; copy or download the config.json that belongs to the weights"
        )
    missing = sorted(k for k in info["missing_keys"] if "pooler" not in k)
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} tensors that {type(model).__name__} needs, {missing[0]!r} "
            "first; they would be random numbers: check that weights and config.json belong together"
        )
    unused = sorted(info["unexpected_keys"])
    of_blocks = _of_blocks(model, unused)
    if of_blocks:
        names = ", ".join(map(repr, of_blocks[:3]))
        raise ModelError(
            f"the weights in {folder} have {len(of_blocks)} tensors for which the blocks of {type(model).__name__} "
            f"have no place ({names}{', ...' if len(of_blocks) > 3 else ''}), so that it would be another model than "
            "the one that was trained: config.json may say fewer blocks or another architecture; copy or download "
            "the config.json that belongs to the weights"
        )
    return len(unused)


def _of_blocks(model: PreTrainedModel, unused: Sequence[str]) -> list[str]:
    """Unused weights of blocks beyond the last one, and those that a block of the model has no parameter for.

    Old files also hold constants of a block (masks, frequencies of rotary positions), which are no weights.
    """
    import torch

    prefix = f"{model.base_model_prefix}."
    lists = {
        name.removeprefix(prefix): len(module) for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    }
    owners = {name.rpartition(".")[0].removeprefix(prefix) for name in model.state_dict()}

    def belongs(key: str) -> bool:
        for path, length in lists.items():
            place = re.search(rf"(?:^|\.){re.escape(path)}\.(\d+)\.", key)
            if place and (int(place[1]) >= length or key.endswith(".weight")):
                return True
            if place and key.endswith(".bias"):
                # a bias of a module with weights; the "bias" of GPT-2's attention is a mask
                return key.rpartition(".")[0].removeprefix(prefix) in owners
        return False

    return [key for key in unused if belongs(key)]


def check_format(config: Any, dtype: torch.dtype, name: str) -> None:
    """Refuse a number format in which a family computes nonsense.

    Parameters
    ----------
    config : PreTrainedConfig
    dtype : torch.dtype
        What is to be computed in.
    name : str
        For the message.

    Raises
    ------
    ModelError
        The model is T5 or a relative of it, and the format float16.
    """
    import torch

    if dtype == torch.float16 and config.model_type in NO_HALF:
        raise ModelError(
            f"{name} is of the family {config.model_type}, which cannot be read in float16: it was trained in "
            "bfloat16, and numbers inside its feed-forward layers exceed 65504, the largest that float16 knows, so "
            "that its states turn into infinity and NaN; load it with dtype='bfloat16' or dtype='float32'"
        )


def check_sparse(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that turns into another one when it is first given a short text.

    Parameters
    ----------
    model : PreTrainedModel
    name : str
        For the message.

    Raises
    ------
    ModelError
        The model is BigBird, or has its encoder, with block sparse attention.
    """
    if any(getattr(module, "attention_type", None) == "block_sparse" for module in model.modules()):
        raise ModelError(
            f"{name} is set to block sparse attention, which it gives up for good at the first short text, so that "
            "what it computes of a long one depends on what it read before; load it with from_pretrained(..., "
            "attention_type='original_full') and pass the object: load_model(model, tokenizer=tokenizer)"
        )


def check_finite(model: PreTrainedModel, name: str) -> None:
    """Refuse weights with NaN or infinity; one pass over the numbers.

    Parameters
    ----------
    model : PreTrainedModel
    name : str
        For the message.

    Raises
    ------
    ModelError
        It names the first such tensor, its block, and how many of its numbers are concerned.
    """
    import torch

    for key, held, bad in broken_tensors(model):
        what = "NaN" if bool(torch.isnan(held).any()) else "infinity"
        narrow = held.dtype == torch.float16
        remedy = "try dtype='float32', or copy" if narrow else "copy"
        raise ModelError(
            f"the weights of {name} hold {what} in {key!r}{_block_of(model, key)}: {bad} of {held.numel()} "
            f"numbers, in {str(held.dtype).removeprefix('torch.')}; {remedy} or download them again, or go back to "
            "a checkpoint from before the training went wrong"
        )


def broken_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor, int]]:
    """Parameters and buffers with NaN or infinity, by name, and how many of their numbers are so."""
    import torch

    seen: set[int] = set()
    buffers = dict(model.named_buffers())
    for key, tensor in plain_tensors({**dict(model.named_parameters()), **buffers}):
        if tensor.dtype.itemsize < 2 or not tensor.is_floating_point() or tensor.is_meta or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        held = tensor.detach()
        # a sum is as fast as reading; it is not finite if a number is not
        if bool(torch.isfinite(held.sum(dtype=torch.promote_types(held.dtype, torch.float32)))):
            continue
        # a mask of attention may hold infinity
        bad = int((torch.isnan(held) if key in buffers else ~torch.isfinite(held)).sum())
        if bad:
            yield key, held, bad


def _block_of(model: PreTrainedModel, key: str) -> str:
    """Which block of its stack a tensor belongs to, in words; empty if to none."""
    import torch

    for path, module in model.named_modules():  # outer lists come first
        if isinstance(module, torch.nn.ModuleList) and key.startswith(f"{path}."):
            number = int(key.removeprefix(f"{path}.").partition(".")[0])
            return f", block {number + 1} of the {len(module)} in {path}"
    return ""


def plain_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model by name; those of classes that pack several (quantized weights) taken apart.

    Parameters
    ----------
    state : mapping
        As ``state_dict`` gives it; what is no tensor is left out.

    Yields
    ------
    tuple
        Name and tensor.
    """
    import torch

    for name, held in state.items():
        if not isinstance(held, torch.Tensor):
            continue
        if hasattr(held, "__tensor_flatten__"):
            parts = held.__tensor_flatten__()[0]
            yield from plain_tensors({f"{name}.{part}": getattr(held, part) for part in parts})
        else:
            yield name, held


def loading_error(folder: Path, error: Exception, *, auto: Any, config: Any, pickled: Sequence[Path]) -> InfogeoError:
    """What to say when a model cannot be made from config and weights: which of the two is to blame.

    Parameters
    ----------
    folder : Path
        For the message.
    error : Exception
        What was raised.
    auto : type
        The automatic class the model was made with.
    config : PreTrainedConfig
    pickled : sequence of Path
        The files with the weights, if these are pickles.

    Returns
    -------
    InfogeoError
        MissingDependencyError if the weights need a package that is not installed, else ModelError.
    """
    import torch

    if isinstance(error, ImportError):
        quantized = " are quantized and" if getattr(config, "quantization_config", None) else ""
        return MissingDependencyError(
            f"the weights in {folder}{quantized} need a package that is not installed ({first_line(error)}); install "
            "it, or get the weights as they were before"
        )
    if isinstance(error, pickle.UnpicklingError):
        for path in pickled:
            with path.open("rb") as stream:
                if stream.read(2).startswith(PICKLE_STARTS):
                    return ModelError(
                        f"{path} holds more than tensors, and reading such a pickle could run code, so it is refused "
                        "even with allow_pickle=True; get the weights as model.safetensors"
                    )
        return ModelError(f"{pickled[0] if pickled else folder} is no file of tensors; copy or download it again")
    try:
        with quiet(), torch.device("meta"):
            auto.from_config(config)
    except Exception as cause:
        return ModelError(
            f"{folder}: config.json cannot be used ({first_line(cause)}); correct it, or copy or download the one "
            "that belongs to the weights"
        )
    return ModelError(
        f"the weights in {folder} cannot be loaded ({first_line(error)}); the files may be damaged or belong to "
        "another config.json: copy or download them again"
    )
