"""What is known of a model's capacity so far, kept in a file that survives an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infogeo.errors import ArgumentError, OutputError
from infogeo_adapters._capacity_views import Doubt, Measured


class Record:
    """Blocks that are done, kept in a file of one JSON object a line; without a path nothing is kept."""

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: str, seed: int | None) -> None:
        self.path = None if path is None else Path(path)
        self.done: dict[int, tuple[list[Measured], list[Doubt]]] = {}
        kept: int | None = None
        if self.path is not None and self.path.exists():
            kept = self._load(self.path, fingerprint, seed)
        fresh = int(np.random.SeedSequence().generate_state(1)[0])
        self.seed = next(s for s in (seed, kept, fresh) if s is not None)
        if self.path is not None and kept is None:
            self._append({"infogeo": "capacity", "fingerprint": fingerprint, "seed": self.seed}, "w")

    def _load(self, path: Path, fingerprint: str, seed: int | None) -> int:
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            head = json.loads(lines[0])
            known, kept = head["fingerprint"], int(head["seed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArgumentError(
                f"checkpoint: {path} is no unfinished work of measure_capacity; delete it or choose another path"
            ) from error
        if known != fingerprint or seed not in (None, kept):
            raise ArgumentError(
                f"checkpoint: {path} belongs to other work (another model, text, argument or seed); delete it to start "
                "anew, or choose another path"
            )
        for number, line in enumerate(lines[1:-1], start=2):  # after the last line end: cut off while it was written
            try:
                entry = json.loads(line)
                found = [Measured.from_dict(item) for item in entry["items"]]
                self.done[int(entry["block"])] = (found, [(str(a), str(b)) for a, b in entry["doubts"]])
            except (ValueError, KeyError, TypeError) as error:
                raise ArgumentError(
                    f"checkpoint: line {number} of {path} is damaged; delete that line to measure its block again, or "
                    "the file to start anew"
                ) from error
        if lines[-1]:
            path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
        return kept

    def read(self, block: int) -> tuple[list[Measured] | None, list[Doubt]]:
        """What is known of a block, None if nothing."""
        return self.done.get(block, (None, []))

    def write(self, block: int, found: Sequence[Measured], doubts: Sequence[Doubt]) -> None:
        """Keep a block."""
        self._append({"block": block, "items": [item.to_dict() for item in found], "doubts": [*doubts]}, "a")

    def _append(self, entry: Mapping[str, Any], mode: str) -> None:
        if self.path is None:
            return
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write {str(self.path)!r}: {error.strerror or error}; give another path"
            ) from error
