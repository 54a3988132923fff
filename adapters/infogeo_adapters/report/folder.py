"""Output folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infogeo.errors import OutputError
from infogeo_adapters.plots.style import plural

MANIFEST = "manifest.json"
GENERATOR = "infogeo report"


def check_output_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder a report can be written to, or an error before any work is done.

    It may be absent, empty, or hold a report and nothing else; such a report is replaced.

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    Path
        Absolute, links resolved.

    Raises
    ------
    OutputError
        If it is a file, holds anything but a report, or cannot be written.
    """
    if "\0" in os.fspath(folder):
        raise OutputError("the output folder's name holds a NUL character; give another name")
    try:
        path = Path(folder).expanduser().resolve()
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file, wanted a folder; remove the file or give another folder")
        here = Path.cwd().resolve()
        if path == here or path in here.parents:
            raise OutputError(
                f"{path} is the current folder or one around it, and a report replaces its whole folder; name a folder "
                "inside, for example report"
            )
        if path.is_dir():
            _check_replaceable(path)
        ancestor = next(p for p in path.parents if p.exists())
        if not ancestor.is_dir():
            raise OutputError(f"{ancestor} is a file, so {path} cannot be made inside it; give another folder")
        if not os.access(ancestor, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write in {ancestor}: no permission; give another folder")
        _probe(ancestor)
    except OutputError:
        raise
    except (OSError, RuntimeError) as error:
        raise OutputError(f"the output folder {os.fspath(folder)!r} cannot be used ({error}); give another") from error
    return path


def _probe(folder: Path) -> None:
    """Make a folder and take it away again: permissions alone do not tell, as in /proc or on a read-only disk."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".infogeo-", dir=folder))
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror or error}; give another folder") from error


def _check_replaceable(path: Path) -> None:
    found = {p.name for p in path.iterdir()}
    if not found:
        return
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        ours = manifest["generator"] == GENERATOR and {MANIFEST, *map(str, manifest["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise OutputError(f"{path} is not empty and holds no report of infogeo; empty it or give another folder")
    foreign = sorted(found - ours)
    if foreign:
        objects = "it" if len(foreign) == 1 else "them"
        raise OutputError(
            f"{path} holds a report, which would be replaced, and {plural(len(foreign), 'thing')} beside it "
            f"({', '.join(foreign[:3])}), which would be lost; move {objects} or give another folder"
        )


@contextlib.contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to write in, that takes the place of ``folder`` at the end and vanishes upon any error.

    Raises
    ------
    OutputError
        As :func:`check_output_folder`, or if writing fails.
    """
    path = check_output_folder(folder)
    missing = [p for p in path.parents if not p.exists()]
    scratch: Path | None = None
    done = False
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}-", dir=path.parent))
            new = scratch / "new"
            new.mkdir()
            yield new
            files = sorted(p.name for p in new.iterdir())
            text = json.dumps({"generator": GENERATOR, "files": files}, ensure_ascii=False, indent=1)
            (new / MANIFEST).write_text(text + "\n", encoding="utf-8")
            _swap(new, path, scratch / "old")
            done = True
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write the report to {path} ({error}); nothing was changed") from error
    finally:
        if scratch is not None and (path.exists() or not (scratch / "old").exists()):
            shutil.rmtree(scratch, ignore_errors=True)
        if not done:
            for made in missing:
                with contextlib.suppress(OSError):
                    made.rmdir()


def _swap(new: Path, path: Path, old: Path) -> None:
    """Put the new folder in the place of the old one, which comes back if that fails."""
    if not path.exists():
        new.rename(path)
        return
    _check_replaceable(path)
    try:
        path.rename(old)
        new.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            try:
                old.rename(path)
            except OSError as error:
                raise OutputError(f"the report could not be replaced, and the old one is now in {old}") from error
        raise
