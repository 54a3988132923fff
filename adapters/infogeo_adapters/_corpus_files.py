"""Files of a corpus: written whole or not at all, laid out as safetensors, and held by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import FormatError, OutputError
from infogeo_adapters.files import write_atomically

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""
LOCK = "capture.lock"
ITEM_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}
"""Bytes of a number in each format of safetensors that is used here."""
NUMPY = {"F64": "<f8", "I64": "<i8", "F32": "<f4", "I32": "<i4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "BOOL": "?"}
"""What NumPy calls them; bfloat16, which it does not know, is read as its bits."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Format and shape of each tensor, by name."""


class WriteError(Exception):
    """A file could not be written; caught where it is known what was kept, and raised there as an OutputError."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {str(path)!r}: {error.strerror or error}")
        self.full = error.errno in NO_SPACE


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system meanwhile become a WriteError that names the path."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise WriteError(path, error) from error


# One file, whole or not at all


def write_at(file: BinaryIO, offset: int, content: bytes | memoryview) -> None:
    """Write all of the content at a place in an unbuffered file."""
    file.seek(offset)
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut, where the system can."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """A small file under a temporary name, made safe, then renamed: the old content or the new, nothing between."""
    with writing(path):
        try:
            write_atomically(path, content, temporary=path.name + PARTIAL)
        except OutputError as error:
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
        sync_folder(path.parent)


def discard(path: Path) -> None:
    """Delete a file if it is there and can be; what cannot be deleted now is when the work goes on."""
    with contextlib.suppress(OSError):
        path.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Safetensors: eight bytes with the length of a JSON header, the header, the numbers


@dataclass(frozen=True)
class Layout:
    """Where each tensor stands in a file."""

    header: bytes
    """The beginning of the file."""
    offsets: Mapping[str, int]
    """First byte of each tensor, counted from the beginning of the file."""
    size: int
    """Bytes of the whole file."""


def lay_out(shapes: Shapes, metadata: Mapping[str, str]) -> Layout:
    """Tensors one after the other, the widest numbers first, so that each begins at a multiple of its width."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    begins, end = {}, 0
    for name, (kind, shape) in sorted(shapes.items(), key=lambda item: -ITEM_SIZES[item[1][0]]):
        begins[name], end = end, end + ITEM_SIZES[kind] * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begins[name], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return Layout(header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end)


class ShardWriter:
    """A safetensors file filled place by place, in any order; it gets its name when it is committed.

    The whole room is reserved at once, so a disk that is too full shows before the work is done. Without
    :meth:`commit` nothing is left at the end of the ``with`` block.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self.partial = path.with_name(path.name + PARTIAL)

    def __enter__(self) -> ShardWriter:
        try:
            with writing(self.path):
                self.file = self.partial.open("wb", buffering=0)
                try:
                    _reserve(self.file, self.layout.size)
                    write_at(self.file, 0, self.layout.header)
                except BaseException:
                    self.file.close()
                    raise
        except BaseException:
            discard(self.partial)
            raise
        return self

    def put(self, name: str, values: NDArray[Any], *, first: int = 0) -> None:
        """Write numbers into a tensor, beginning at one of its entries (counted in the flat tensor)."""
        array = np.ascontiguousarray(values)
        with writing(self.path):
            if array.size:
                place = self.layout.offsets[name] + first * array.itemsize
                write_at(self.file, place, array.reshape(-1).view(np.uint8).data)

    def commit(self) -> str:
        """Give the file its name once it is safe on the disk, and return its SHA-256."""
        with writing(self.path):
            os.fsync(self.file.fileno())
            self.file.close()
            digest = sha256_of(self.partial)
            os.replace(self.partial, self.path)
            try:
                sync_folder(self.path.parent)
            except BaseException:
                discard(self.path)
                raise
        return digest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        discard(self.partial)


def _reserve(file: BinaryIO, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise  # other errors say that the file system cannot reserve


def read_tensors(path: Path, size: int) -> dict[str, NDArray[Any]]:
    """Views into a memory-mapped shard, by name; bfloat16 as its bits.

    Raises
    ------
    FormatError
        The file is missing, cut short or not laid out as it should be.
    """
    check_size(path, size)
    try:
        mapped = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        entries = json.loads(mapped[8 : 8 + length].tobytes())
        entries.pop("__metadata__", None)
        return {name: _view(mapped[8 + length :], **entry) for name, entry in entries.items()}
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, error) from error


def _view(data: NDArray[np.uint8], dtype: str, shape: list[int], data_offsets: list[int]) -> NDArray[Any]:
    begin, end = data_offsets
    return data[begin:end].view(NUMPY[dtype]).reshape(shape)


def damaged(path: Path, error: Exception) -> FormatError:
    """The error for a shard whose contents make no sense."""
    return FormatError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy(path)}")


def check_lengths(path: Path, tensors: Mapping[str, NDArray[Any]], lengths: Mapping[str, int]) -> None:
    """Raise a FormatError unless a shard has these tensors, each with as many rows."""
    for name, length in lengths.items():
        if name not in tensors or tensors[name].shape[:1] != (length,):
            raise FormatError(f"{path} is damaged: it has no {name} of length {length}; {remedy(path)}")


def check_size(path: Path, size: int) -> None:
    """Raise a FormatError unless a shard is there with as many bytes as its manifest says."""
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise FormatError(
            f"{path} is missing; call capture_corpus again with the same arguments, which captures it again"
        ) from error
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != size:
        change = "cut short" if found < size else "altered"
        raise FormatError(f"{path} was {change}: it has {found} bytes, the manifest says {size}; {remedy(path)}")


def remedy(path: Path) -> str:
    """What to do about a damaged shard."""
    return f"delete {path.name} and call capture_corpus again with the same arguments, which captures it again"


# One process at a time


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the lock of a process on this machine that no longer runs is taken over.

    Where the system can lock files it says whether the other process lives, and it lets go when a process is killed.
    Elsewhere, and for a lock from another machine, the number of the process and the name of its machine decide.

    Raises
    ------
    OutputError
        Another process holds it.
    WriteError
        The lock cannot be written.
    """
    path = folder / LOCK
    with writing(path):
        handle = _take(path)
    try:
        with writing(path):
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        if sys.platform != "win32":
            discard(path)  # while it is still locked, so that nobody else's is deleted
        os.close(handle)
        if sys.platform == "win32":
            discard(path)  # where an open file cannot be deleted


def _take(path: Path) -> int:
    """A handle of the lock file, locked."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            alone = _lock(handle)
            owner = _owner(handle)
            if alone is False or (owner and not _is_over(owner, known=alone is True)):
                who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
                raise OutputError(
                    f"{path.parent} is being written by {who}; wait for it or choose another folder. If that process "
                    f"no longer runs, delete {path}"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner deleted it between our two looks


def _lock(handle: int) -> bool | None:
    """True if the file is locked for us, False if it is for another, None if the system or the disk cannot lock."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _owner(handle: int) -> dict[str, Any]:
    """Who wrote the lock; empty if nobody did."""
    try:
        found = json.loads(os.pread(handle, 4096, 0) if hasattr(os, "pread") else os.read(handle, 4096))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_over(owner: Mapping[str, Any], *, known: bool) -> bool:
    """Whether the writer of a lock has ended; ``known`` if the system says so of those on this machine."""
    if owner.get("host") != socket.gethostname():
        return False
    if known:
        return True
    if sys.platform == "win32":  # where a signal to a process would end it
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (KeyError, ValueError, TypeError, OverflowError, PermissionError):
        return False
    return False
