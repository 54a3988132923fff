"""Whether weights and config.json belong together: what loading reported, turned into an error or a count."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.stack import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PICKLE_STARTS = (b"PK", b"\x80")
"""How a file of torch.save and a plain pickle begin."""


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


def loading_error(folder: Path, error: Exception, *, auto: Any, config: Any, pickled: Sequence[Path]) -> ModelError:
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
    ModelError
    """
    import torch

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
