"""Scores of a run over a treebank, kept batch by batch, so that an interruption costs one batch.

A folder holds ``manifest.json``, which says what decides the numbers, and one file for each batch of sentences and each
set of families that was run together. A file gets its name when it is whole and safe on the disk; a batch that has no
file of a family was not finished with it, and is run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import ArgumentError, FormatError, OutputError
from infogeo_adapters._corpus_files import (
    LOCK,
    NUMPY,
    PARTIAL,
    WriteError,
    discard,
    held,
    lay_out,
    write_whole,
    writing,
)
from infogeo_adapters.files import check_path
from infogeo_adapters.treebank._facts import Arrays, Facts, digest_of, hash_of

MANIFEST = "manifest.json"
FORMAT, VERSION = "infogeo treebank scores", 1
NOTE = "infogeo"
"""Name of the one entry in a file's metadata."""
KINDS = {
    "bool": "BOOL", "uint8": "U8", "int32": "I32", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
}
"""What safetensors calls the formats of numbers that are kept."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """What one family gave for one batch of sentences."""

    arrays: Arrays
    """Numbers by name."""
    seconds: float
    """How long it took."""


class ScoreStore(Protocol):
    """Where entries are kept: in memory, or in a folder."""

    def known(self, batch: int) -> frozenset[str]:
        """Names of what is there for a batch."""

    def put(self, batch: int, entries: Mapping[str, Entry]) -> None:
        """Keep entries of a batch, all of them or, if it fails, none."""

    def get(self, batch: int, name: str) -> Entry:
        """An entry that is there."""

    def seconds(self, batch: int) -> Mapping[str, float]:
        """How long what is there for a batch took, by name."""

    def prepared(self, seconds: Mapping[str, float] | None = None) -> Mapping[str, float]:
        """Seconds that families took to prepare, by name, after those given have been added."""


class MemoryStore:
    """Entries that are forgotten with the object."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str], Entry] = {}
        self._prepared: dict[str, float] = {}

    def known(self, batch: int) -> frozenset[str]:
        """Names of what is there for a batch."""
        return frozenset(name for number, name in self._entries if number == batch)

    def put(self, batch: int, entries: Mapping[str, Entry]) -> None:
        """Keep entries of a batch."""
        self._entries.update({(batch, name): entry for name, entry in entries.items()})

    def get(self, batch: int, name: str) -> Entry:
        """An entry that is there."""
        return self._entries[batch, name]

    def seconds(self, batch: int) -> Mapping[str, float]:
        """How long what is there for a batch took, by name."""
        return {name: entry.seconds for (number, name), entry in self._entries.items() if number == batch}

    def prepared(self, seconds: Mapping[str, float] | None = None) -> Mapping[str, float]:
        """Seconds that families took to prepare, after those given have been added."""
        self._prepared.update(seconds or {})
        return dict(self._prepared)


class FolderStore:
    """Entries in the files of a folder; made by :func:`open_folder`, which also holds the folder."""

    def __init__(self, folder: Path, run: Facts, families: Mapping[str, Facts]) -> None:
        self._folder, self._run, self._families = folder, _through_json(run), _through_json(families)
        self._prepared: dict[str, float] = {}
        self._places: dict[int, dict[str, Path]] = {}
        self._seconds: dict[int, dict[str, float]] = {}
        self._read: tuple[int, dict[Path, dict[str, Entry]]] = -1, {}
        self._open()

    def known(self, batch: int) -> frozenset[str]:
        """Names of what is there for a batch."""
        return frozenset(self._places.get(batch, ()))

    def put(self, batch: int, entries: Mapping[str, Entry]) -> None:
        """Write entries of a batch to a file of their own.

        Raises
        ------
        OutputError
            The file cannot be written; what was kept before stays.
        """
        arrays = {f"{name}/{key}": a for name, entry in entries.items() for key, a in entry.arrays.items()}
        note = {
            "format": FORMAT, "version": VERSION, "run": hash_of(self._run), "batch": batch,
            "digest": digest_of(arrays), "seconds": {name: entry.seconds for name, entry in entries.items()},
            "families": {name: hash_of(self._families[name]) for name in entries},
        }
        path = self._folder / f"batch-{batch:05d}-{hash_of(note['families'])[:8]}.safetensors"
        with self._saying_how_to_go_on():
            write_whole(path, _packed(arrays, note))
        self._note(path, note)

    def get(self, batch: int, name: str) -> Entry:
        """Read an entry that is there.

        Raises
        ------
        FormatError
            Its file is damaged.
        """
        path = self._places[batch][name]
        if self._read[0] != batch:
            self._read = batch, {}
        files = self._read[1]
        if path not in files:
            note, arrays = _unpacked(path)
            if digest_of(arrays) != note["digest"]:
                raise FormatError(f"{path} is damaged: its numbers are not those that were written; {_remedy(path)}")
            split: dict[str, dict[str, NDArray[Any]]] = {family: {} for family in note["seconds"]}
            for key, values in arrays.items():
                family, _, part = key.rpartition("/")
                split[family][part] = values
            files[path] = {f: Entry(arrays=split[f], seconds=s) for f, s in note["seconds"].items()}
        return files[path][name]

    def seconds(self, batch: int) -> Mapping[str, float]:
        """How long what is there for a batch took, by name."""
        return dict(self._seconds.get(batch, {}))

    def prepared(self, seconds: Mapping[str, float] | None = None) -> Mapping[str, float]:
        """Seconds that families took to prepare, after those given have been added."""
        if seconds:
            self._prepared.update(seconds)
            self._write_manifest()
        return dict(self._prepared)

    def _open(self) -> None:
        ours = re.compile(rf"({re.escape(MANIFEST)}|batch-\d{{5,}}-[0-9a-f]{{8}}\.safetensors)")
        present = sorted(path.name for path in self._folder.iterdir() if path.name != LOCK)
        partial = [n for n in present if n.endswith(PARTIAL) and ours.fullmatch(n.removesuffix(PARTIAL))]
        foreign = [n for n in present if n not in partial and not ours.fullmatch(n)]
        found = _read_manifest(self._folder / MANIFEST)
        if found is None and len(partial) < len(present):
            raise ArgumentError(
                f"folder: {self._folder} holds other files ({', '.join((foreign or present)[:3])}) and no {MANIFEST}; "
                "choose an empty or new one"
            )
        for name in partial:
            discard(self._folder / name)
        files = [self._folder / name for name in present if ours.fullmatch(name) and name != MANIFEST]
        notes = {path: _unpacked(path, header_only=True)[0] for path in files}
        if found is not None:
            self._check_same(found, {name for note in notes.values() for name in note["families"]})
            families = {**found["families"], **self._families}
            same = {name for name, facts in found["families"].items() if facts == families[name]}
            self._prepared = {name: seconds for name, seconds in found["prepared"].items() if name in same}
            self._families = families
        self._write_manifest()
        for path, note in notes.items():
            self._enter(path, note)

    def _check_same(self, found: Facts, kept: Collection[str]) -> None:
        """Raise if the run is another, or a family of which something is kept; one that failed at once may change."""
        differences = _differences(found["run"], self._run)
        for name in sorted(set(found["families"]) & set(self._families) & set(kept)):
            pairs = _differences(found["families"][name], self._families[name])
            differences += [f"of the family {name!r} {pair}" for pair in pairs]
        if differences:
            renamed = "" if found["run"] != self._run else ", give a family that has changed another name"
            raise ArgumentError(
                f"folder: {self._folder} holds scores of another run: {'; '.join(differences)}. Call with what it was "
                f"begun with{renamed}, or choose another folder (or delete this one)"
            )

    def _enter(self, path: Path, note: Facts) -> None:
        """Note what a file holds, if it is of this run."""
        if note["run"] != hash_of(self._run):
            raise FormatError(f"{path} belongs to another run than {MANIFEST} beside it; {_remedy(path)}")
        for name, facts in note["families"].items():
            if facts != hash_of(self._families.get(name)):
                raise FormatError(f"{path} holds another family {name!r} than {MANIFEST} says; {_remedy(path)}")
        self._note(path, note)

    def _note(self, path: Path, note: Facts) -> None:
        batch = int(note["batch"])
        self._places.setdefault(batch, {}).update(dict.fromkeys(note["families"], path))
        self._seconds.setdefault(batch, {}).update(note["seconds"])

    def _write_manifest(self) -> None:
        content = {
            "format": FORMAT, "version": VERSION, "run": self._run, "families": self._families,
            "prepared": self._prepared,
        }
        with self._saying_how_to_go_on():
            write_whole(self._folder / MANIFEST, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())

    @contextlib.contextmanager
    def _saying_how_to_go_on(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            remedy = "free some space" if error.full else "make the folder writable"
            raise OutputError(
                f"{error}; {len(self._places)} batches are kept in {self._folder}. To go on, {remedy} and call again "
                "with the same arguments"
            ) from error


@contextlib.contextmanager
def open_folder(folder: str | os.PathLike[str], run: Facts, families: Mapping[str, Facts]) -> Iterator[FolderStore]:
    """Open a folder for the scores of a run, new or begun earlier, and hold it for this process meanwhile.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    run : mapping
        What decides the numbers of all families, by names that an error message can show.
    families : mapping
        For each family what decides its own; families that are there already and not named here are left alone, new
        ones are added.

    Yields
    ------
    FolderStore

    Raises
    ------
    ArgumentError
        The folder holds other files, or the scores of another run, or of a family of the same name with other options;
        the message lists what differs.
    FormatError
        A file in it is damaged.
    OutputError
        It cannot be written, or another process writes there.
    """
    path = check_path("folder", folder)
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"folder: {path} is a file; give a folder")
    try:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        with held(path):
            yield FolderStore(path, run, families)
    except WriteError as error:
        raise OutputError(f"{error}; give another folder") from error


# Plain values


def _through_json(value: Any) -> Any:
    """As it will be when it is read again: tuples become lists."""
    return json.loads(json.dumps(value))


def _differences(found: Facts, wanted: Facts) -> list[str]:
    """What differs between two mappings, in words."""
    return [
        f"{name} was {_short(found.get(name))} and is now {_short(wanted.get(name))}"
        for name in dict.fromkeys((*found, *wanted)) if found.get(name) != wanted.get(name)
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{64}", text) else text if len(text) < 200 else f"{text[:200]}..."


# Files


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{path} is damaged ({error}); delete {path.parent} and run again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArgumentError(f"folder: {path} is not the manifest of a run over a treebank; choose another folder")
    if content.get("version") != VERSION:
        raise FormatError(
            f"{path} has format version {content.get('version')!r}, this infogeo reads {VERSION}; choose another folder"
        )
    if not all(isinstance(content.get(name), dict) for name in ("run", "families", "prepared")):
        raise FormatError(f"{path} is damaged (parts of it are missing); delete {path.parent} and run again")
    return content


def _packed(arrays: Arrays, note: Facts) -> bytes:
    """A safetensors file of arrays, with a note."""
    plain = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    shapes = {name: (KINDS[values.dtype.name], values.shape) for name, values in plain.items()}
    layout = lay_out(shapes, {NOTE: json.dumps(note, sort_keys=True)})
    content = bytearray(layout.size)
    content[: len(layout.header)] = layout.header
    for name, values in plain.items():
        first = layout.offsets[name]
        content[first : first + values.nbytes] = values.tobytes()
    return bytes(content)


def _unpacked(path: Path, *, header_only: bool = False) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The note of a file and its arrays, or a FormatError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= path.stat().st_size - 8:
                raise ValueError("it is shorter than its header says")
            entries = json.loads(file.read(length))
            content = b"" if header_only else file.read()
        note = json.loads(entries.pop("__metadata__")[NOTE])
        if (note["format"], note["version"]) != (FORMAT, VERSION) or set(note["seconds"]) != set(note["families"]):
            raise ValueError("its note makes no sense")
        if max((e["data_offsets"][1] for e in entries.values()), default=0) != path.stat().st_size - 8 - length:
            raise ValueError("its length is not the one that its header says")
        arrays = {} if header_only else {
            name: np.frombuffer(content[slice(*e["data_offsets"])], dtype=NUMPY[e["dtype"]]).reshape(e["shape"])
            for name, e in entries.items()
        }
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(f"{path} is damaged ({type(error).__name__}: {error}); {_remedy(path)}") from error
    return note, arrays


def _remedy(path: Path) -> str:
    return f"delete {path.name} and call again with the same arguments, which computes it again"
