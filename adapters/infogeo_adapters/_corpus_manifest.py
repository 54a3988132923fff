"""The manifest of a corpus: of which model, with which options, and what each shard holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import ArgumentError, FormatError
from infogeo.results import Source, installed_versions
from infogeo_adapters._corpus_files import write_whole

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

MANIFEST = "manifest.json"
FORMAT = "infogeo corpus"
VERSION = 1


def shard_name(number: int) -> str:
    """File name of a shard, counted from 0."""
    return f"shard-{number:05d}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What the manifest says about one shard."""

    file: str
    """Name of the file in the folder."""
    size: int
    """Bytes of the file."""
    sha256: str | None
    """SHA-256 of the file; None while it is to be captured again."""
    first_text: int
    """Number of its first text in the corpus."""
    texts: int
    tokens: int
    words: int
    texts_hash: str
    """Running hash of all texts from the first of the corpus to the last of this shard."""
    session: int
    """Position in the list of sessions of the one that captured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the numbers in the shards; all of it must be the same when a capture goes on."""

    content_hash: str | None
    """SHA-256 of the model's weights."""
    compute_dtype: str | None
    """Number format the model computes in."""
    tokenizer_hash: str
    """SHA-256 of the serialized tokenizer."""
    layers: tuple[int, ...]
    pooling: str | None
    dtype: str
    """Number format on the disk."""
    shard_tokens: int
    overflow: str
    store_text: bool
    causal: bool
    n_layers: int


NAMES = {
    "content_hash": "the model's weights (SHA-256)", "compute_dtype": "the number format the model computes in",
    "tokenizer_hash": "the tokenizer (SHA-256)", "dtype": "the number format on the disk (dtype)",
}
"""Settings whose names say too little in a message."""


@dataclass(slots=True, kw_only=True)
class Manifest:
    """All of the file ``manifest.json``; changed and written again after each shard."""

    settings: Settings
    model: str | None
    """What the model was loaded as."""
    architecture: str | None
    complete: bool = False
    """True if the texts came to their end."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Versions, device and ``batch_tokens`` of each stretch of the capture: they change rounding only."""
    shards: list[Shard] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Replace the file in one step."""
        content = {
            "format": FORMAT, "format_version": VERSION, "complete": self.complete, "model": self.model,
            "architecture": self.architecture, "settings": asdict(self.settings),
            "texts": sum(s.texts for s in self.shards), "tokens": sum(s.tokens for s in self.shards),
            "texts_hash": self.shards[-1].texts_hash if self.shards else None,
            "sessions": self.sessions, "shards": [asdict(s) for s in self.shards],
        }
        write_whole(folder / MANIFEST, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())

    def kept(self) -> list[Shard]:
        """The shards from the first to the one before those at the end that are to be captured again."""
        shards = list(self.shards)
        while shards and shards[-1].sha256 is None:
            shards.pop()
        return shards

    def source(self) -> Source:
        """Where the numbers come from."""
        options: dict[str, str | int | float | bool | None] = {
            "layers": ",".join(map(str, self.settings.layers)), "pooling": self.settings.pooling,
            "storage_dtype": self.settings.dtype, "overflow": self.settings.overflow,
            "tokenizer_hash": self.settings.tokenizer_hash, "words": "split_words",
        }
        return Source(
            model=self.model, content_hash=self.settings.content_hash, architecture=self.architecture,
            dtype=self.settings.compute_dtype, text_hash=self.shards[-1].texts_hash if self.shards else None,
            options=options, versions=self.sessions[0]["versions"] if self.sessions else installed_versions(),
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None if there is none.

    Raises
    ------
    FormatError
        It is damaged, or of a later format.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise ArgumentError(f"folder: {folder} is a file; give the folder of a corpus") from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{path} is damaged ({error}); {_anew(folder)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FormatError(f"{path} is not the manifest of a corpus; give the folder that capture_corpus wrote")
    if content.get("format_version") != VERSION:
        raise FormatError(
            f"{path} has format version {content.get('format_version')!r}, this infogeo reads {VERSION}; read it with "
            "the infogeo that wrote it, or capture it again in another folder"
        )
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged ({type(error).__name__}: {error}); {_anew(folder)}") from error


def _anew(folder: Path) -> str:
    return f"delete {folder} and capture the texts again"


def _parsed(content: Mapping[str, Any]) -> Manifest:
    settings = Settings(**{**content["settings"], "layers": tuple(content["settings"]["layers"])})
    shards = [Shard(**entry) for entry in content["shards"]]
    first = 0
    for number, shard in enumerate(shards):
        counts = (shard.size, shard.first_text, shard.texts, shard.tokens, shard.words, shard.session)
        if shard.file != shard_name(number) or not all(type(c) is int and c >= 0 for c in counts):
            raise ValueError(f"entry {number} of its shards makes no sense")
        if shard.first_text != first or not shard.texts:
            raise ValueError(f"{shard.file} begins with text {shard.first_text}, not {first}, or has no texts")
        first += shard.texts
        bytes.fromhex(shard.texts_hash)
    if any(not isinstance(s["versions"], dict) for s in content["sessions"]):
        raise ValueError("a session has no versions")
    return Manifest(
        settings=settings, model=content["model"], architecture=content["architecture"],
        complete=bool(content["complete"]), sessions=list(content["sessions"]), shards=shards,
    )


def check_same(folder: Path, found: Settings, wanted: Settings) -> None:
    """Raise an ArgumentError that lists what differs between the shards in a folder and what is asked for."""
    differences = [
        f"{NAMES.get(f.name, f.name)} was {_short(getattr(found, f.name))} and is now {_short(getattr(wanted, f.name))}"
        for f in fields(Settings) if getattr(found, f.name) != getattr(wanted, f.name)
    ]
    if differences:
        raise ArgumentError(
            f"{folder} holds shards of another capture: {'; '.join(differences)}. Call with what it was captured with, "
            "or choose another folder (or delete this one)"
        )


def _short(value: Any) -> str:
    text = list(value) if isinstance(value, tuple) else value
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else repr(text)


def tokenizer_hash(model: LanguageModel) -> str:
    """SHA-256 of the serialized backend of a tokenizer, without the padding and truncation that each call sets."""
    from infogeo_adapters.transformers.locks import lock_of

    backend: Any = model.tokenizer.backend_tokenizer
    with lock_of(model.tokenizer):
        content = json.loads(backend.to_str())
    content.update(padding=None, truncation=None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def this_session(model: LanguageModel, batch_tokens: int) -> dict[str, Any]:
    """What may differ between two stretches of one capture, since it changes the last digits only."""
    return {"versions": installed_versions(), "device": str(model.model.device), "batch_tokens": batch_tokens}


def pending(shard: Shard) -> Shard:
    """The entry of a shard that is about to be captured again."""
    return replace(shard, sha256=None)


