"""Histories of training in files: JSON Lines, appended to while a model trains, and read again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infogeo.errors import ArgumentError, FormatError, OutputError
from infogeo.results import Source, to_plain
from infogeo.training import RunFacts, TrainingHistory, TrainingRecord
from infogeo_adapters.files import check_path

FILE = "history.jsonl"
"""Name of the file in the folder of a run."""

FORMAT, VERSION = "infogeo training history", 1

SAME = (
    "architecture", "depth", "heads", "width", "vocabulary", "n_parameters", "causal", "objective", "probe",
    "probe_shape",
)
"""Facts in which a run that goes on must agree with its file; all else is as it was when the run began."""


def read_history(path: str | os.PathLike[str]) -> TrainingHistory:
    """Read the history of a run that a monitor has written, or is still writing.

    Parameters
    ----------
    path : path
        The folder of the run, or the file ``history.jsonl`` in it.

    Returns
    -------
    TrainingHistory
        Where a run was resumed, what it had recorded after the step of its resumption is left out: the steps were
        done again. A last line that was cut short by a crash is left out, and a note says so.

    Raises
    ------
    ArgumentError
        There is no such file.
    FormatError
        The file is no history, was written by a newer version, or is damaged before its last line; the message names
        the line.

    See Also
    --------
    TrainingMonitor : writes such files.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo_adapters import load_model, measure_checkpoint
    >>> model = load_model()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = measure_checkpoint(model, quantities=["state_norm"], folder=folder)
    ...     print(read_history(folder).summary())
    TrainingHistory of bundled: 1 record up to step 0
    """
    file = history_file(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArgumentError(
            f"cannot read {str(file)!r}: {error.strerror or error}; give the folder of a run, or its {FILE}"
        ) from error
    content = parse_history(data, str(file))
    return content.history(name=_short_name(Path(path)))


def history_file(path: str | os.PathLike[str]) -> Path:
    """The file of a history, of which the folder may be given."""
    given = check_path("path", path)
    return given / FILE if given.is_dir() else given


def _short_name(path: Path) -> str:
    return path.parent.name if path.name == FILE else path.name


@dataclass
class Content:
    """What the lines of a file say, as far as it was read."""

    facts: RunFacts
    name: str
    records: dict[int, TrainingRecord] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    complete: int = 0
    """Bytes up to the end of the last whole line."""

    def rewind(self, step: int) -> None:
        """Forget what came after a step."""
        self.records = {s: r for s, r in self.records.items() if s <= step}
        self.losses = {s: x for s, x in self.losses.items() if s <= step}

    def add_record(self, record: TrainingRecord) -> None:
        """Take a record; one of the same step gives way to it."""
        self.rewind(record.step)
        self.records[record.step] = record

    def history(self, *, name: str = "") -> TrainingHistory:
        """All of it as a history."""
        return TrainingHistory(
            facts=self.facts, records=tuple(self.records[s] for s in sorted(self.records)),
            losses=np.array(sorted(self.losses.items()), dtype=np.float64).reshape(-1, 2), notes=tuple(self.notes),
            name=self.name or name,
        )


def parse_history(data: bytes, where: str) -> Content:
    """Read the lines of a file; see :func:`read_history`."""
    lines = data.split(b"\n")
    cut = lines.pop()
    if not lines:
        raise FormatError(
            f"{where}: found {'an empty file' if not data else 'no whole line'}, wanted the history of a run; it ended "
            "before anything was recorded"
        )
    first = _json_of(lines[0], where, 1)
    if not isinstance(first, dict) or first.get("format") != FORMAT:
        raise FormatError(f"{where}, line 1: this is no history of training; give the {FILE} that a monitor wrote")
    if first.get("version") != VERSION:
        raise FormatError(
            f"{where}, line 1: found version {first.get('version')!r} of the format, wanted {VERSION}; read it with "
            "the version of infogeo that has written it"
        )
    content = Content(_facts_of(first.get("facts"), where), str(first.get("name", "")), complete=len(data) - len(cut))
    for number, line in enumerate(lines[1:], start=2):
        _take(content, _json_of(line, where, number), f"{where}, line {number}")
    if cut.strip():
        content.notes.append(f"line {len(lines) + 1} of the file was cut short by a crash and is left out")
    return content


def _json_of(line: bytes, where: str, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except ValueError as error:  # of JSON or of UTF-8
        raise FormatError(
            f"{where}, line {number}: this is no JSON ({error}); the file is damaged: restore it, or take the lines "
            f"before this one"
        ) from error


def _take(content: Content, said: Any, place: str) -> None:
    try:
        if not isinstance(said, dict):
            raise FormatError(f"{place}: found {type(said).__name__}, wanted an object")
        if "resumed" in said:
            content.rewind(int(said["resumed"]))
            content.notes.append(f"resumed at step {int(said['resumed'])}")
        if "note" in said:
            content.notes.append(str(said["note"]))
        if "record" in said:
            record = _record_of(said["record"])
            content.add_record(record)
            TrainingHistory(facts=content.facts, records=(record,))  # which checks the shapes
        content.losses.update({int(step): float(loss) for step, loss in said.get("losses", ())})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{place}: {_words(error)}; the file is damaged, or another program wrote it") from error


def _words(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _record_of(said: Any) -> TrainingRecord:
    broken = said.get("broken_pass")
    if broken not in (None, "forward", "backward"):
        raise ArgumentError(f"broken_pass: found {broken!r}, wanted 'forward' or 'backward'")
    return TrainingRecord(
        step=said["step"], values={str(n): np.array(_numbers(v), dtype=np.float64) for n, v in said["values"].items()},
        broken_at=said.get("broken_at"), broken_pass=broken, twins=tuple(map(int, said.get("twins", ()))),
        unmoved=tuple(map(str, said.get("unmoved", ()))),
        broken_weights=tuple(map(str, said.get("broken_weights", ()))), seconds=float(said.get("seconds", 0.0)),
    )


def _numbers(value: Any) -> Any:
    """Nested lists of numbers, of which NaN and infinity are written as strings."""
    return [_numbers(v) for v in value] if isinstance(value, list) else float(value)


def _facts_of(said: Any, where: str) -> RunFacts:
    try:
        given = dict(said)
        source = {k: v for k, v in dict(given.pop("source", {})).items() if k in Source.__dataclass_fields__}
        known = {f.name for f in dataclasses.fields(RunFacts)}
        given = {k: v for k, v in given.items() if k in known}
        given["heads"] = tuple(map(int, given["heads"]))
        texts, tokens = given["probe_shape"]
        return RunFacts(**{**given, "probe_shape": (int(texts), int(tokens))}, source=Source(**source))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise FormatError(f"{where}, line 1: the facts of the run are incomplete ({_words(error)})") from error


class HistoryWriter:
    """Appends to the file of a run, one whole line at a time.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    facts : RunFacts
    name : str
        How the run is called.
    step : int
        Steps that the model has behind it. A file that is there goes on from this step.
    again : bool
        Whether the same monitor has written the file before, so that it may begin anew.

    Attributes
    ----------
    content : Content
        What the file holds.

    Raises
    ------
    FormatError
        A file is there that is damaged, or of another run.
    OutputError
        The folder or file cannot be written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], facts: RunFacts, *, name: str = "", step: int = 0, again: bool = False
    ) -> None:
        self.file = check_path("folder", folder) / FILE
        self._descriptor: int | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            data = self.file.read_bytes() if self.file.exists() else b""
        except OSError as error:
            raise OutputError(f"cannot write to {str(folder)!r}: {error.strerror or error}; give another") from error
        if b"\n" in data:
            self.content = parse_history(data, str(self.file))
            check_same_run(self.content, facts, step, str(self.file), again=again)
            self._open(self.content.complete)
            cut = [note for note in self.content.notes if "was cut short" in note]
            self.content.rewind(step)
            self.content.notes.append(f"resumed at step {step}")
            self._write({"resumed": step, **({"note": cut[-1]} if cut else {})})
            before = self.content.facts.every
            if before and before != facts.every:
                self.note(f"from step {step} on with a record every {facts.every} steps, which was {before} at first")
        else:
            self.content = Content(facts, name)
            self._open(0)
            self._write({"format": FORMAT, "version": VERSION, "name": name, "facts": facts})

    def record(self, record: TrainingRecord, losses: Mapping[int, float]) -> None:
        """Append a record, and losses of steps."""
        self.content.add_record(record)
        self.content.losses.update(losses)
        self._write({"record": record, "losses": list(losses.items())})

    def note(self, text: str | None, losses: Mapping[int, float] | None = None) -> None:
        """Append a note, or losses alone."""
        self.content.notes += [] if text is None else [text]
        self.content.losses.update(losses or {})
        self._write({**({} if text is None else {"note": text}), "losses": list((losses or {}).items())})

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, length: int) -> None:
        try:
            self._descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._descriptor, length)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"cannot write {str(self.file)!r}: {reason}; give another folder") from error

    def _write(self, said: Mapping[str, Any]) -> None:
        """One line, in one call of the operating system, so that a crash cuts the last line at most."""
        if self._descriptor is None:
            raise OutputError(f"{str(self.file)!r} is closed")
        line = (json.dumps(to_plain(said), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
        try:
            status = os.fstat(self._descriptor)
            if status.st_nlink:
                self._append(line, status.st_size)
        except OSError as error:
            raise OutputError(f"cannot write {str(self.file)!r}: {error.strerror or error}") from error
        if not status.st_nlink:
            raise OutputError(f"cannot write {str(self.file)!r}: it was deleted since this run opened it")

    def _append(self, line: bytes, start: int) -> None:
        """Write a line after so many bytes; what there is of it is taken back if that fails."""
        descriptor = self._descriptor
        if descriptor is None:
            return
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(descriptor, left):]
        except BaseException:
            if os.fstat(descriptor).st_size < start + len(line):
                os.ftruncate(descriptor, start)
            raise


def check_same_run(content: Content, facts: RunFacts, step: int, where: str, *, again: bool = False) -> None:
    """Raise unless a run at a step may go on in a file."""
    there = content.facts
    other = [name for name in SAME if getattr(there, name) != getattr(facts, name)]
    if other:
        told = "; ".join(f"{n}: {_shown(getattr(there, n))} there, {_shown(getattr(facts, n))} here" for n in other)
        what = "another probe batch" if set(other) <= {"probe", "probe_shape"} else "another run"
        raise FormatError(f"{where} holds the history of {what} ({told}); give another folder")
    last = max(content.records, default=0)
    if step == 0 and last > 0 and not again:
        raise FormatError(
            f"{where} holds the history of run {there.run} up to step {last}, and this run begins at step 0; give "
            f"another folder, or delete the file, or resume the run with step= the steps that it has behind it"
        )


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    return text if len(text) < 20 else text[:12] + "..."
