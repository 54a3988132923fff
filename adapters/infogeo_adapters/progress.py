"""Long work: a progress bar that waits before it shows, and a matrix on disk that survives an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from infogeo import Family, pairwise
from infogeo._arrays import is_tensor, to_numpy
from infogeo.errors import ArgumentError, OutputError
from infogeo.measures import Measure, check_family
from infogeo.pairwise import check_measure
from infogeo_adapters._require import require

DELAY = 2.0
"""Seconds before a bar appears: quick work shows nothing."""
_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent_bars(silent: bool = True) -> Iterator[None]:
    """Show no progress bar for a while, also none of those that the work inside makes.

    Parameters
    ----------
    silent : bool
        If not, nothing changes.
    """
    before = _silent.set(_silent.get() or silent)
    try:
        yield
    finally:
        _silent.reset(before)


@contextmanager
def progress_bar(
    description: str, *, unit: str = "rows", delay: float = DELAY, file: Any = None
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for ``pairwise(..., progress=...)``, shown once the work has taken a while.

    Where standard error is neither a terminal nor a notebook, as in a log file, two plain lines take its place: one
    once the work has taken a while, and one at its end.

    Parameters
    ----------
    description : str
        What stands before the bar.
    unit : str
        What is counted.
    delay : float
        Seconds to wait before the bar appears, 2 by default.
    file : file object, optional
        Where a bar is written in any case; by default standard error.

    Yields
    ------
    callable
        ``show(done, total)``, to be called with growing counts.

    Raises
    ------
    MissingDependencyError
        If tqdm is not installed.

    Examples
    --------
    >>> from infogeo import PointMass, euclidean_distance, pairwise
    >>> with progress_bar("distances") as show:
    ...     values = pairwise(euclidean_distance, PointMass([[0.0], [3.0]]), progress=show)
    >>> values.tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    tqdm = require("tqdm", extra="transformers", caller="progress_bar")
    if file is None and not _drawable():
        lines = _PlainLines(description, unit, delay)
        yield lines.show
        lines.end()
        return
    with tqdm.tqdm(
        total=0, desc=description, unit=f" {unit}", delay=delay, leave=False, file=file, disable=_silent.get()
    ) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _drawable() -> bool:
    """Whether standard error can draw a line anew: a terminal, or a notebook."""
    return sys.stderr is not None and (sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel"))


class _PlainLines:
    """Tells after the delay what is being done and how far it is, and at the end, if it told that, how far it came."""

    def __init__(self, description: str, unit: str, delay: float) -> None:
        self.description, self.unit, self.due = description, unit, time.monotonic() + delay
        self.silent = _silent.get() or sys.stderr is None
        self.last: tuple[int, int] | None = None
        self.told: tuple[int, int] | None = None

    def show(self, done: int, total: int) -> None:
        """Take down the counts, and tell them the first time after the delay."""
        self.last = done, total
        if self.told is None and time.monotonic() >= self.due and not 0 < total <= done:
            self._tell(done, total)

    def end(self) -> None:
        """Tell the last counts if earlier ones were told."""
        if self.last is not None and self.told not in (None, self.last):
            self._tell(*self.last)

    def _tell(self, done: int, total: int) -> None:
        self.told = done, total
        if not self.silent:
            sys.stderr.write(f"{self.description}: {f'{done} of {total}' if total else done} {self.unit} done\n")
            sys.stderr.flush()


def pairwise_to_file(
    path: str | os.PathLike[str],
    measure: Measure,
    x: Family,
    *,
    memory: float = 256e6,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> np.memmap[Any, np.dtype[np.float64]]:
    """All pairs of a batch written to a ``.npy`` file, block by block; called again, it goes on where it was cut off.

    Beside the file a small one is kept, its name with ``.progress.json`` added: how many rows are final, of which
    measure, and a hash of the batch. It is written after the rows, so that after an interruption of any kind (an
    exception, Ctrl-C, the end of the process) at most the rows since then are computed again. It is deleted at the end.

    Parameters
    ----------
    path : path
        Of the matrix, to be read with ``numpy.load(path, mmap_mode="r")``.
    measure : Measure
    x : Family
        A batch of shape (n,).
    memory : float
        As for :func:`~infogeo.pairwise`; the matrix is not held in memory.
    threads : int, optional
        As for :func:`~infogeo.pairwise`.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows.

    Returns
    -------
    numpy.memmap, shape (n, n)
        The finished file, read-only.

    Raises
    ------
    ArgumentError
        If there is a file at the path that is not the unfinished matrix of this measure and this batch.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from infogeo import PointMass, euclidean_distance
    >>> x = PointMass([[0.0], [1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pairwise_to_file(os.path.join(folder, "distances.npy"), euclidean_distance, x).tolist()
    [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]
    """
    check_measure("pairwise_to_file", measure)
    check_family("pairwise_to_file", x)
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"path: found {path!r}, wanted a path")
    matrix, record = Path(path), Path(f"{os.fspath(path)}.progress.json")
    if len(x.batch_shape) != 1:
        raise ArgumentError(f"pairwise_to_file: found batch shape {x.batch_shape}, wanted (n,)")
    n = len(x)
    wanted = {"measure": measure.name, "family": type(x).__name__, "n": n, "batch": _fingerprint(x)}
    start = _rows_done(matrix, record, wanted)
    try:
        out = _open(matrix, "r+" if start else "w+", n)
        _write_record(record, {**wanted, "rows": start})
    except OSError as error:
        raise OutputError(f"cannot write {os.fspath(path)!r}: {error.strerror or error}; give another path") from error

    def keep(done: int, total: int) -> None:
        out.flush()
        _write_record(record, {**wanted, "rows": done})
        if progress is not None:
            progress(done, total)

    if start < n:
        pairwise(measure, x, memory=memory, out=out, start=start, threads=threads, progress=keep)
    record.unlink()
    return _open(matrix, "r", n)


def _open(matrix: Path, mode: str, n: int) -> np.memmap[Any, np.dtype[np.float64]]:
    opened: np.memmap[Any, np.dtype[np.float64]] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        matrix, mode=mode, dtype=np.float64, shape=(n, n)
    )
    return opened


def _fingerprint(x: Family) -> str:
    digest = hashlib.sha256()
    for field in (f for f in dataclasses.fields(x) if f.init):  # type: ignore[arg-type]
        value = getattr(x, field.name)
        if field.name not in x.event_axes and not is_tensor(value) and not isinstance(value, np.ndarray):
            digest.update(f"{field.name} {value!r} ".encode())
            continue
        array = np.ascontiguousarray(to_numpy(value))
        digest.update(f"{field.name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _rows_done(matrix: Path, record: Path, wanted: dict[str, Any]) -> int:
    """How many rows of the file are final; zero for a new one."""
    if not record.exists():
        if matrix.exists():
            raise ArgumentError(
                f"pairwise_to_file: {matrix} exists already and is not unfinished work; delete it or choose another "
                "path"
            )
        return 0
    found = json.loads(record.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ArgumentError(
                f"pairwise_to_file: {record} belongs to other work, its {name} is {found.get(name)!r}, not {value!r}; "
                "delete both files to start anew, or choose another path"
            )
    return int(found["rows"]) if matrix.exists() else 0


def _write_record(record: Path, content: dict[str, Any]) -> None:
    """Replace the file in one step, so that it is never half written."""
    fresh = record.with_name(record.name + ".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    os.replace(fresh, record)
