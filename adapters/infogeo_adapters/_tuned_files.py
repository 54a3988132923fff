"""Tuned lenses and unfinished trainings as safetensors files, and the hash that ties them to a model's read-out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import ArgumentError, FormatError
from infogeo_adapters.files import check_path, write_atomically
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.readout import ReadOut

VERSION = 1
"""Of the files; raised when their meaning changes."""


def hash_of_readout(model: LanguageModel, readout: ReadOut) -> str:
    """SHA-256 of the numbers of all modules on the way from the last state to the logits, and of the scalings.

    Numbers are hashed as float32, so that a model loaded in a wider format than its file's has the same hash.
    """
    digest = hashlib.sha256()
    for path in readout.path:
        for name, tensor in sorted(model.model.get_submodule(path).state_dict(keep_vars=True).items()):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
            digest.update(values.cpu().contiguous().reshape(-1).numpy().data)
    config = model.model.config.get_text_config()
    for name in readout.scalings:
        digest.update(f"{name} {getattr(config, name, None)!r}\n".encode())
    return digest.hexdigest()


def write_tensors(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, NDArray[Any]], facts: Any) -> Path:
    """Write arrays and what JSON can hold to one file, in one step.

    Raises
    ------
    ArgumentError
        The path is none.
    OutputError
        The file cannot be written; one that was there is left as it was.
    """
    from safetensors.numpy import save

    name = check_path("path", path).name
    arrays = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    said = json.dumps(facts, ensure_ascii=False)
    metadata = {"format": kind, "version": str(VERSION), "facts": said, "sha256": _hash_of(arrays, said)}
    return write_atomically(path, save(arrays, metadata), temporary=f".{name}.partial")


def read_tensors(
    path: str | os.PathLike[str], kind: str, wanted: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and facts of a file of :func:`write_tensors`; ``wanted`` holds each array's dtype kind and axes.

    Raises
    ------
    ArgumentError
        There is no such file.
    FormatError
        It is damaged (not even one bit may differ), or of another kind or version.
    """
    from safetensors import SafetensorError, safe_open

    file = check_path("path", path)
    if not file.is_file():
        raise ArgumentError(f"cannot read {str(file)!r}: there is no such file; give the path of an {kind}")
    try:
        with safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            _check_kind(file, kind, metadata)
            facts = json.loads(metadata["facts"])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            if metadata["sha256"] != _hash_of(arrays, metadata["facts"]):
                raise FormatError(
                    f"{file.name} is damaged: its numbers are not those of its hash; copy it again, or fit a new one"
                )
    except OSError as error:
        raise ArgumentError(f"cannot read {str(file)!r}: {error.strerror or error}; give another path") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{file.name} is no {kind} or is damaged ({first_line(error)}); copy it again, or fit a new one"
        ) from error
    for name, (dtype_kind, axes) in wanted.items():
        found = arrays.get(name)
        if found is None or found.dtype.kind != dtype_kind or found.ndim != axes:
            what = "is missing" if found is None else f"has shape {found.shape} and dtype {found.dtype}"
            raise FormatError(f"{file.name} is damaged: {name} {what}; copy it again, or fit a new one")
    if not isinstance(facts, dict):
        raise FormatError(f"{file.name} is damaged: its facts are no JSON object; copy it again, or fit a new one")
    return arrays, facts


def _hash_of(arrays: Mapping[str, NDArray[Any]], facts: str) -> str:
    """SHA-256 of all that a file says."""
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _check_kind(file: Path, kind: str, metadata: Mapping[str, str]) -> None:
    found = metadata.get("format")
    if found != kind:
        what = f"a {found!r}" if found else "safetensors without a format of infogeo"
        raise FormatError(f"{file.name} is no {kind}: found {what}; give the path of an {kind}")
    if metadata.get("version") != str(VERSION):
        raise FormatError(
            f"{file.name} is of version {metadata.get('version')!r} of an {kind}, this infogeo reads version "
            f"{VERSION}; use the infogeo that wrote it, or fit a new one"
        )
