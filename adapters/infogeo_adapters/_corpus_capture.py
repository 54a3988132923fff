"""The loop behind ``capture_corpus``: texts read one by one, gathered to a shard, run, written, forgotten."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from infogeo.activations import LayerActivations, Pooling
from infogeo.errors import ArgumentError, DomainError, ModelError, OutputError, TextError
from infogeo_adapters._corpus_files import (
    LOCK,
    PARTIAL,
    Layout,
    ShardWriter,
    WriteError,
    check_lengths,
    check_size,
    discard,
    held,
    lay_out,
    read_tensors,
    writing,
)
from infogeo_adapters._corpus_manifest import (
    MANIFEST,
    Manifest,
    Settings,
    Shard,
    check_same,
    pending,
    read_manifest,
    shard_name,
    this_session,
)
from infogeo_adapters.transformers.alignment import check_text
from infogeo_adapters.transformers.forward import Item, Overflow, prepare, run_items

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

STORAGE = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What safetensors calls the formats of hidden states on the disk."""
KINDS = {"bool": "BOOL", "uint8": "U8", "int32": "I32", "int64": "I64"}
Progress = Callable[[int, int], object]


@dataclass
class Texts:
    """The caller's texts: read one at a time, numbered, and hashed into one running hash."""

    given: Iterable[str]
    count: int = 0
    """Texts read so far."""
    chain: str = ""
    """SHA-256 of the running hash before the last text and of that text's own, hexadecimal."""

    def __post_init__(self) -> None:
        self.total = len(self.given) if isinstance(self.given, Sized) else 0
        self.iterator = iter(self.given)

    def take(self) -> tuple[str, bytes] | None:
        """The next text and its SHA-256, or None at the end."""
        try:
            text = next(self.iterator)
        except StopIteration:
            return None
        if not isinstance(text, str):
            raise TextError(f"texts: number {self.count} is of type {type(text).__name__}, wanted str")
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        self.chain = hashlib.sha256(bytes.fromhex(self.chain) + digest).hexdigest()
        self.count += 1
        return text, digest


@dataclass
class Window:
    """The texts of one shard, ready to be run."""

    items: list[Item] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    tokens: int = 0


def run(
    model: LanguageModel, texts: Iterable[str], folder: Path, settings: Settings, *, batch_tokens: int,
    progress: Progress | None,
) -> None:
    """Capture what is not captured yet, so that the folder holds all texts.

    Raises
    ------
    OutputError
        Something cannot be written, or another process writes there; the message says what is kept.
    """
    manifest = Manifest(settings=settings, model=model.name, architecture=model.source.architecture)
    new = False
    try:
        with writing(folder):
            new = not folder.exists()
        manifest = _found(folder, manifest)  # a first look, so that the lock and its errors come after
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            manifest = _found(folder, manifest)
            _tidy(folder, manifest)
            Capture(model, Texts(texts), folder, manifest, batch_tokens, progress).all()
    except WriteError as error:
        raise OutputError(f"{error}; {_how_to_go_on(folder, manifest, full=error.full)}") from error
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # which it refuses to do with one that holds anything


def _found(folder: Path, new: Manifest) -> Manifest:
    """The manifest in the folder if it has shards, after a check that they are of this capture; else the new one."""
    found = read_manifest(folder)
    if found is None or not found.shards:
        return Manifest(settings=new.settings, model=new.model, architecture=new.architecture)
    check_same(folder, found.settings, new.settings)
    return found


def _how_to_go_on(folder: Path, manifest: Manifest, *, full: bool) -> str:
    kept = manifest.kept()
    held_now = f"{len(kept)} shards with {sum(s.texts for s in kept)} texts are kept in {folder}"
    remedy = "free some space" if full else "make the folder writable"
    return (
        f"{held_now if kept else 'nothing was captured yet'}. To go on, {remedy} (or copy it to another disk) and call "
        "capture_corpus again with the same arguments"
        + (f"; the corpus is complete, and open_corpus({str(folder)!r}) reads it" if manifest.complete else "")
    )


def _tidy(folder: Path, manifest: Manifest) -> None:
    """Check what is there, and delete what an interrupted capture left: temporary files, a shard not yet entered."""
    ours = re.compile(rf"({re.escape(MANIFEST)}|shard-\d{{5,}}\.safetensors){re.escape(PARTIAL)}")
    present = sorted(path.name for path in folder.iterdir())
    foreign = [n for n in present if not ours.fullmatch(n) and n not in (LOCK, MANIFEST)]
    if MANIFEST not in present and foreign:
        raise ArgumentError(
            f"folder: {folder} holds other files ({', '.join(foreign[:3])}) and no {MANIFEST}; choose an empty or new "
            "one"
        )
    for shard in manifest.shards:
        if shard.file in present and shard.sha256 is not None:
            check_size(folder / shard.file, shard.size)
    for name in present:
        if ours.fullmatch(name) or name == shard_name(len(manifest.shards)):
            discard(folder / name)


@dataclass
class Capture:
    """One run over the texts."""

    model: LanguageModel
    texts: Texts
    folder: Path
    manifest: Manifest
    batch_tokens: int
    progress: Progress | None

    def all(self) -> None:
        """Pass over the shards that are there, capture the others."""
        number = 0
        while self.one_shard(number):
            number += 1
        if not self.manifest.shards:
            raise TextError("texts: found no texts, wanted at least one")
        if not self.manifest.complete:
            self.manifest.complete = True
            self.manifest.write(self.folder)

    def one_shard(self, number: int) -> bool:
        """Pass over a shard or capture it; False if there are no texts for it. What it held is forgotten after it."""
        if number < len(self.manifest.shards):
            window = self.passed(number)
        else:
            window = self.fill(Window())
            if not window.items:
                return False
        if window is not None:
            self.capture(number, window)
        return True

    def fill(self, window: Window) -> Window:
        """Read texts until the shard is full or the texts end."""
        while window.tokens < self.manifest.settings.shard_tokens:
            taken = self.texts.take()
            if taken is None:
                break
            self.add(window, *taken, number=self.texts.count - 1)
        return window

    def add(self, window: Window, text: str, digest: bytes, *, number: int) -> None:
        """Tokenize a text into the window."""
        try:
            item = prepare(self.model, check_text(text), None, cast("Overflow", self.manifest.settings.overflow))
        except TextError as error:
            kept = sum(s.texts for s in self.manifest.kept())
            raise TextError(
                f"texts: number {number} cannot be used: {error}. Of the texts before it {kept} are kept in "
                f"{self.folder}; call again with the text mended or left out"
            ) from error
        window.items.append(item)
        window.digests.append(digest)
        window.tokens += len(item.tokens.ids)

    def passed(self, number: int) -> Window | None:
        """Read the texts of a shard that has an entry and check that they are the same; None if it need not be run.

        A last shard that is not full is run again if there are more texts now, so that the shards are those of a run
        over all of them at once.
        """
        shard = self.manifest.shards[number]
        last = number == len(self.manifest.shards) - 1 and shard.tokens < self.manifest.settings.shard_tokens
        path = self.folder / shard.file
        there = shard.sha256 is not None and path.exists()
        tensors = read_tensors(path, shard.size) if there else {}
        check_lengths(path, tensors, {"text_hashes": shard.texts} if there else {})
        hashes = tensors.get("text_hashes")
        taken = []
        for i in range(shard.texts):
            one = self.texts.take()
            if one is None:
                raise ArgumentError(
                    f"texts: they end after {self.texts.count}, but {self.folder} holds more; give all of them, or "
                    "read what is there with open_corpus(folder)"
                )
            if hashes is not None and hashes[i].tobytes() != one[1]:
                raise self.another(f"number {shard.first_text + i} is")
            if last or not there:
                taken.append(one)
        if self.texts.chain != shard.texts_hash:
            raise self.another(f"among numbers {shard.first_text} to {self.texts.count - 1} one is")
        self.report(self.texts.count)
        window = Window()
        if there and last:
            more = self.texts.take()
            if more is None:
                return None
            taken.append(more)
        elif there:
            return None
        for i, (text, digest) in enumerate(taken):
            self.add(window, text, digest, number=shard.first_text + i)
        return self.fill(window) if last else window

    def another(self, which: str) -> ArgumentError:
        """The error for a text that is not the one that was captured."""
        return ArgumentError(
            f"texts: {which} another text than the one captured into {self.folder}; give the same texts in the same "
            "order (more may follow), or choose another folder"
        )

    def report(self, done: int) -> None:
        """Tell how many texts are done."""
        if self.progress is not None:
            self.progress(done, self.texts.total)

    def capture(self, number: int, window: Window) -> None:
        """Run the texts of a window and write their shard, then its entry."""
        manifest, path = self.manifest, self.folder / shard_name(number)
        session = this_session(self.model, self.batch_tokens)
        if not manifest.sessions or manifest.sessions[-1] != session:
            manifest.sessions.append(session)
        if number < len(manifest.shards):
            manifest.shards[number] = pending(manifest.shards[number])
        manifest.complete = False
        if number < len(manifest.shards) or not manifest.shards:
            manifest.write(self.folder)
        shard = self.written(path, window)
        known = manifest.shards[number:]
        manifest.shards[number:] = [shard, *known[1:]]
        try:
            manifest.write(self.folder)
        except BaseException:
            manifest.shards[number:] = known
            discard(path)
            raise

    def written(self, path: Path, window: Window) -> Shard:
        """The shard of a window, on the disk."""
        settings = self.manifest.settings
        first_text = self.texts.count - len(window.items)
        tables = self.tables(window)
        starts = tables["text_words" if settings.pooling else "text_tokens"]
        results = self.results(window, first_text)
        first = next(results)
        layout = self.layout(tables, int(starts[-1]), first[1].dimension)
        done = 0
        with ShardWriter(path, layout) as writer:
            for name, values in tables.items():
                writer.put(name, values)
            for i, activations in itertools.chain([first], results):
                self.check_weights(activations)
                for layer in settings.layers:
                    rows = stored_rows(activations, layer, settings, text=first_text + i)
                    writer.put(f"layer.{layer}", rows, first=int(starts[i]) * rows.shape[1])
                done += 1
                self.report(first_text + done)
            digest = writer.commit()
        return Shard(
            file=path.name, size=layout.size, sha256=digest, first_text=first_text, texts=len(window.items),
            tokens=window.tokens, words=int(tables["text_words"][-1]), texts_hash=self.texts.chain,
            session=len(self.manifest.sessions) - 1,
        )

    def results(self, window: Window, first_text: int) -> Iterator[tuple[int, LayerActivations]]:
        """Positions in the window and activations, batch by batch; an error says in which texts."""
        try:
            yield from run_items(self.model, window.items, attention=False, batch_tokens=self.batch_tokens)
        except DomainError as error:
            raise DomainError(f"in texts {first_text} to {self.texts.count - 1}: {error}") from error

    def layout(self, tables: dict[str, NDArray[Any]], rows: int, width: int) -> Layout:
        """Where everything stands in a shard."""
        settings = self.manifest.settings
        shapes = {name: (KINDS[values.dtype.name], values.shape) for name, values in tables.items()}
        shapes |= {f"layer.{layer}": (STORAGE[settings.dtype], (rows, width)) for layer in settings.layers}
        return lay_out(shapes, {"format": "infogeo corpus 1", "model": settings.content_hash or ""})

    def tables(self, window: Window) -> dict[str, NDArray[Any]]:
        """Everything of a shard but the hidden states."""
        items = window.items
        ids = np.concatenate([item.tokens.ids for item in items])
        known = np.unique(ids)
        names = [str(name) for name in self.model.tokenizer.convert_ids_to_tokens(known.tolist())]
        tables: dict[str, NDArray[Any]] = {
            "token_ids": ids.astype(np.int32),
            "token_spans": np.concatenate([item.tokens.spans for item in items]).astype(np.int32),
            "token_words": np.concatenate([item.table for item in items]).astype(np.int32),
            "special": np.concatenate([item.tokens.special for item in items]),
            "word_spans": np.array([span for item in items for span in item.spans], dtype=np.int32).reshape(-1, 2),
            "text_tokens": _starts([len(item.tokens.ids) for item in items]),
            "text_words": _starts([len(item.spans) for item in items]),
            "text_hashes": np.frombuffer(b"".join(window.digests), dtype=np.uint8).reshape(-1, 32),
            "truncated_words": _option(items, "truncated_words"), "joined_words": _option(items, "joined_words"),
            "vocabulary_ids": known.astype(np.int32),
        }
        tables["vocabulary"], tables["vocabulary_bytes"] = _packed(names)
        if self.manifest.settings.store_text:
            tables["text"], tables["text_bytes"] = _packed([item.text for item in items])
        return tables

    def check_weights(self, activations: LayerActivations) -> None:
        """Raise a ModelError if the model is not the one that the capture began with."""
        if activations.source.content_hash != self.manifest.settings.content_hash:
            raise ModelError(
                "the model's weights changed during the capture; put them back (load the model again) and call "
                "capture_corpus again to go on, or capture the changed model into another folder"
            )


def stored_rows(activations: LayerActivations, layer: int, settings: Settings, *, text: int) -> NDArray[Any]:
    """Token or word vectors of a layer in the format of the disk, bfloat16 as its bits.

    Raises
    ------
    DomainError
        A number is beyond the format's range.
    """
    import torch

    rows: NDArray[Any] = activations.hidden_states[layer]
    if settings.pooling is not None:
        rows = activations.word_vectors(layer, pooling=cast("Pooling", settings.pooling))
    stored = torch.from_numpy(np.array(rows)).to(getattr(torch, settings.dtype))
    if not stored.isfinite().all():
        raise DomainError(
            f"layer {layer} of text number {text} holds {float(np.abs(rows).max()):.6g}, which {settings.dtype} cannot "
            "hold; capture with dtype='float32' (or 'bfloat16', which has its range) into another folder"
        )
    array: NDArray[Any] = (stored.view(torch.int16) if settings.dtype == "bfloat16" else stored).numpy()
    return array


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _packed(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All strings as one row of bytes, and where each begins."""
    coded = [s.encode() for s in strings]
    return np.frombuffer(b"".join(coded), dtype=np.uint8), _starts([len(c) for c in coded])


def _option(items: Sequence[Item], name: str) -> NDArray[np.int32]:
    return np.array([item.options.get(name, 0) for item in items], dtype=np.int32)
