"""Hidden states of many texts in a folder: captured shard by shard, resumed after any interruption, read piecewise."""

from __future__ import annotations

import bisect
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast, get_args

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import check_count, check_flag, check_progress
from infogeo.activations import Pooling, resolve_layer
from infogeo.errors import ArgumentError, FormatError
from infogeo.results import Result, Source
from infogeo_adapters._corpus_files import check_size, read_tensors, remedy, sha256_of
from infogeo_adapters._corpus_manifest import MANIFEST, Settings, Shard, read_manifest, tokenizer_hash
from infogeo_adapters._corpus_text import CorpusText, OpenShard, captured_layer
from infogeo_adapters.files import check_path

if TYPE_CHECKING:
    from infogeo_adapters.transformers.forward import Overflow
    from infogeo_adapters.transformers.loading import LanguageModel


def capture_corpus(
    model: LanguageModel,
    texts: Iterable[str],
    folder: str | os.PathLike[str],
    *,
    layers: Iterable[int] | None = None,
    pooling: Pooling | None = None,
    dtype: str = "float32",
    batch_tokens: int = 4096,
    shard_tokens: int = 65536,
    overflow: Overflow = "error",
    store_text: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> Corpus:
    """Capture the hidden states of any number of texts into a folder; called again, it goes on where it was cut off.

    The folder gets shards in the safetensors format and ``manifest.json``, which says of which model, tokenizer and
    options they are, with size and SHA-256 of each. A shard is written under a temporary name, made safe on the disk
    and renamed, then the manifest likewise; so whatever ends the process (an exception, Ctrl-C, ``kill -9``, a power
    cut), at most the work on one shard is lost. On the next call with the same arguments the texts are read again from
    their beginning, compared by hash with those that were captured, and only what is missing is run: shards that were
    deleted, and texts not reached before. More texts may follow on those of a finished corpus. The shards are then,
    byte for byte, those of a run without interruption (on the same machine and versions).

    Within a shard texts are run sorted by length, in batches, without attention; they are stored in their own order.
    Of an encoder-decoder model the encoder is captured.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    texts : iterable of str
        Also a generator, of any length. It is read once, one text at a time.
    folder : path
        A new or empty folder, or that of a capture to go on with.
    layers : iterable of int, optional
        Which layers to keep: 0 is the embedding, l the stream after block l; negative ones count from the last. By
        default all.
    pooling : {"mean", "first", "last"}, optional
        Keep one vector for each word, pooled over its tokens, instead of one for each token.
    dtype : {"float32", "float16", "bfloat16", "float64"}
        Number format on the disk. The float16 format holds 11 bits and numbers up to 65504, bfloat16 holds 8 bits and
        the range of float32. A number beyond the range is an error, never an infinity.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer text runs alone. It may change between calls, since it
        changes rounding only; the manifest notes it.
    shard_tokens : int
        A shard ends with the text that brings it to this number of tokens.
    overflow : {"error", "truncate"}
        What to do with a text longer than the model's context: refuse it, or cut it after the last word that fits
        (:attr:`CorpusText.truncated_words` counts the rest).
    store_text : bool
        Whether to store the texts themselves, without which words have spans but no letters.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of texts, run or found done; as by
        :func:`~infogeo_adapters.progress_bar`. The total is 0 where ``texts`` has no length.

    Returns
    -------
    Corpus

    Raises
    ------
    ArgumentError
        An argument has no such value; the folder holds shards of another model, tokenizer, options or texts (the
        message says what differs), or other files.
    TextError
        A text is no str, empty or too long (the message gives its number), or there are none.
    DomainError
        A number overflows the format (the message names text and layer), or the model computes NaN.
    ModelError
        The model's weights changed meanwhile.
    FormatError
        A shard from an earlier call was cut short or altered.
    OutputError
        The folder cannot be written (a full disk, no permission), or another process is writing there. The message
        says what is kept and how to go on.

    Notes
    -----
    Memory does not grow with the number of texts. Held at one time are the texts of one shard with their tokens (about
    half a kilobyte for each token, until ``shard_tokens`` are gathered) and the states of one batch, at most some four
    times :math:`4 (L + 1) d` bytes for each of ``batch_tokens`` tokens. Nothing is read ahead: when shard k is written,
    exactly its texts and those before have been taken from ``texts``. The states of a shard go to the disk batch by
    batch.

    The disk needs ``len(layers)`` times d numbers for each token (or word), and some 20 bytes more. A model that was
    loaded from a folder and the same model given as an object count as different, since their weights are hashed
    differently.

    See Also
    --------
    open_corpus : Read a corpus that was captured before.
    capture_activations : A few texts in memory, with attention.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo_adapters import load_model
    >>> model = load_model()
    >>> texts = ("The cat sat.", "It rained all day.", "So the cat slept.")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     corpus = capture_corpus(model, (t for t in texts), folder, layers=[0, -1])
    ...     corpus, corpus[2].words, corpus[2].states[6].shape == (len(corpus[2].tokens), 160)
    (Corpus of 3 texts, 18 tokens: layers 0, 6 as float32 in 1 shard (bundled),
     ('So', 'the', 'cat', 'slept', '.'), True)
    """
    from infogeo_adapters._corpus_capture import run
    from infogeo_adapters.transformers.loading import LanguageModel

    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise ArgumentError(f"texts: found {type(texts).__name__}, wanted an iterable of str, such as a list of texts")
    if isinstance(texts, Set):
        raise ArgumentError("texts: found a set, whose order is another each time; give sorted(texts)")
    path = check_path("folder", folder)
    batch_tokens = check_count("batch_tokens", batch_tokens, 1)
    check_progress(progress)
    settings = _settings(
        model, layers, pooling=pooling, dtype=dtype, shard_tokens=check_count("shard_tokens", shard_tokens, 1),
        overflow=overflow, store_text=check_flag("store_text", store_text),
    )
    run(model, texts, path, settings, batch_tokens=batch_tokens, progress=progress)
    return open_corpus(path)


def open_corpus(folder: str | os.PathLike[str], *, unfinished: bool = False) -> Corpus:
    """Open the folder of a corpus; its shards are looked at (is each there, has it its size), not read.

    Parameters
    ----------
    folder : path
        As given to :func:`capture_corpus`.
    unfinished : bool
        Also open a corpus whose capture was cut off, as far as it got.

    Returns
    -------
    Corpus

    Raises
    ------
    ArgumentError
        There is no corpus, or its capture was cut off.
    FormatError
        The manifest is damaged, or a shard is missing, cut short or longer than it was. An altered shard of the same
        size is found by :meth:`Corpus.verify`.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo_adapters import load_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = capture_corpus(load_model(), ["The cat sat.", "It slept."], folder)
    ...     [text.words for text in open_corpus(folder)]
    [('The', 'cat', 'sat', '.'), ('It', 'slept', '.')]
    """
    path = check_path("folder", folder)
    unfinished = check_flag("unfinished", unfinished)
    manifest = read_manifest(path)
    if manifest is None:
        raise ArgumentError(f"folder: {path} has no {MANIFEST}; give the folder that capture_corpus wrote")
    shards = manifest.kept()
    if not manifest.complete and not unfinished:
        raise ArgumentError(
            f"folder: the capture into {path} was cut off after {sum(s.texts for s in shards)} texts; call "
            "capture_corpus again with the same arguments to finish it, or open what is there with unfinished=True"
        )
    for shard in shards:
        if shard.sha256 is None:
            raise FormatError(
                f"{path / shard.file} was being captured again when the capture was cut off; call capture_corpus again "
                "with the same arguments"
            )
        check_size(path / shard.file, shard.size)
    settings = manifest.settings
    return Corpus(
        folder=str(path), layers=settings.layers, n_layers=settings.n_layers,
        pooling=cast("Pooling | None", settings.pooling), dtype=settings.dtype, causal=settings.causal,
        complete=manifest.complete, shards=tuple(shards), source=manifest.source(),
    )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Corpus(Result):
    """Hidden states of many texts, in files that are mapped into memory shard by shard and read when they are used.

    ``len(corpus)`` is the number of texts, ``corpus[i]`` one of them, and a loop goes through them in their order. A
    corpus holds the path of its folder and no open file but that of the shard used last; it can be pickled.
    """

    folder: str
    layers: tuple[int, ...]
    """The layers that were captured: 0 the embedding, l the stream after block l."""
    n_layers: int
    """Blocks of the model."""
    pooling: Pooling | None
    """How tokens were pooled to words; None if there is a vector for each token."""
    dtype: str
    """Number format on the disk."""
    causal: bool
    """True if a token's state depends on itself and earlier tokens only."""
    complete: bool
    """False if the capture was cut off and the corpus opened with ``unfinished=True``."""
    shards: tuple[Shard, ...]
    """What the manifest says about each shard."""
    source: Source
    """Where the numbers come from; ``text_hash`` is the running hash of all texts."""

    def __post_init__(self) -> None:
        starts = [shard.first_text for shard in self.shards]
        object.__setattr__(self, "_starts", starts)
        object.__setattr__(self, "_last", None)  # number of a shard and what it holds, as one object for all threads

    def __repr__(self) -> str:
        return self.summary()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.folder, not self.complete)

    def __len__(self) -> int:
        return sum(shard.texts for shard in self.shards)

    def __getitem__(self, index: SupportsIndex) -> CorpusText:
        try:
            number = operator.index(index)
        except TypeError as error:
            raise ArgumentError(f"corpus[{index!r}]: wanted the number of one text, from 0") from error
        n = len(self)
        if not -n <= number < n:
            raise ArgumentError(f"corpus[{number}] does not exist: there are {n} texts, numbered from 0")
        number %= n
        k = bisect.bisect_right(cast("Any", self)._starts, number) - 1
        return self._shard(k).text(number - self.shards[k].first_text)

    def __iter__(self) -> Iterator[CorpusText]:
        for k, entry in enumerate(self.shards):
            shard = self._shard(k)
            yield from (shard.text(i) for i in range(entry.texts))

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts, special ones included."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def n_words(self) -> int:
        """Words of all texts."""
        return sum(shard.words for shard in self.shards)

    def layer(self, layer: SupportsIndex) -> Iterator[NDArray[np.floating[Any]]]:
        """The states of a layer shard by shard: (tokens, d), or (words, d) if the corpus is pooled.

        Rows stand in the order of the texts; :meth:`token_table` (or :meth:`word_table`) says what each is. Arrays are
        read-only views into the file, which stays open as long as one is kept; those of a bfloat16 corpus are float32
        copies.

        Raises
        ------
        ArgumentError
            The layer was not captured.
        """
        number = captured_layer(layer, self.n_layers, self.layers)
        return (self._shard(k).states(number, slice(None)) for k in range(len(self.shards)))

    def token_table(self) -> Iterator[NDArray[np.void]]:
        """Which token each row of :meth:`layer` is, shard by shard, as structured arrays of one row for each token.

        Columns: ``text`` (its number in the corpus), ``position`` (in the text), ``id``, ``word`` (in the text; -1
        outside words) and ``special``.
        """
        return (self._shard(k).token_table() for k in range(len(self.shards)))

    def word_table(self) -> Iterator[NDArray[np.void]]:
        """Which word each row of :meth:`layer` is in a pooled corpus, shard by shard, as structured arrays.

        Columns: ``text`` (its number in the corpus), ``word`` (in the text), ``first`` and ``end`` (characters).
        """
        return (self._shard(k).word_table() for k in range(len(self.shards)))

    def verify(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Read all shards and compare their SHA-256 with the manifest.

        Parameters
        ----------
        progress : callable, optional
            Called as ``progress(done, total)`` with numbers of shards.

        Raises
        ------
        FormatError
            A shard is missing, cut short or altered; the message names it and says what to do.
        """
        check_progress(progress)
        for done, shard in enumerate(self.shards, 1):
            path = Path(self.folder) / shard.file
            check_size(path, shard.size)
            if sha256_of(path) != shard.sha256:
                raise FormatError(f"{path} was altered: its SHA-256 is not that of the manifest; {remedy(path)}")
            if progress is not None:
                progress(done, len(self.shards))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("file", "first_text", "texts", "tokens", "words", "size", "sha256")
        return columns, [tuple(getattr(shard, name) for name in columns) for shard in self.shards]

    def summary(self) -> str:
        layers = f"layer{'s' * (len(self.layers) > 1)} {', '.join(map(str, self.layers))}"
        pooled = f" of words ({self.pooling})" if self.pooling else ""
        return (
            f"Corpus of {len(self)} texts, {self.n_tokens} tokens: {layers}{pooled} as {self.dtype} in "
            f"{len(self.shards)} shard{'s' * (len(self.shards) != 1)} ({self.source.model})"
            f"{'' if self.complete else ', unfinished'}"
        )

    def _shard(self, k: int) -> OpenShard:
        last: tuple[int, OpenShard] | None = cast("Any", self)._last
        if last is None or last[0] != k:
            entry = self.shards[k]
            last = (k, OpenShard(self, entry, read_tensors(Path(self.folder) / entry.file, entry.size)))
            object.__setattr__(self, "_last", last)
        return last[1]


def _reopened(folder: str, unfinished: bool) -> Corpus:
    return open_corpus(folder, unfinished=unfinished)


def _settings(
    model: LanguageModel, layers: Iterable[int] | None, *, pooling: Pooling | None, dtype: str, shard_tokens: int,
    overflow: Overflow, store_text: bool,
) -> Settings:
    """The arguments that decide the numbers, checked, with what the model adds."""
    from infogeo_adapters._corpus_capture import STORAGE
    from infogeo_adapters.transformers.stack import find_stack

    if pooling is not None and not (isinstance(pooling, str) and pooling in get_args(Pooling)):
        raise ArgumentError(f"pooling {pooling!r} does not exist; choose mean, first or last, or None for tokens")
    if not isinstance(dtype, str) or dtype not in STORAGE:
        raise ArgumentError(f"dtype {dtype!r} cannot be stored; choose {', '.join(STORAGE)}")
    if not isinstance(overflow, str) or overflow not in ("error", "truncate"):
        raise ArgumentError(f"overflow {overflow!r} does not exist; choose 'error' or 'truncate'")
    stack = find_stack(model.model)
    wanted = range(stack.depth + 1) if layers is None else layers
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise ArgumentError(f"layers: found {layers!r}, wanted a list of layers, such as [0, 6]")
    numbers = tuple(sorted({resolve_layer(layer, stack.depth, "model") for layer in wanted}))
    if not numbers:
        raise ArgumentError("layers: found none, wanted at least one")
    source = model.current_source()
    return Settings(
        content_hash=source.content_hash, compute_dtype=source.dtype, tokenizer_hash=tokenizer_hash(model),
        layers=numbers, pooling=pooling, dtype=dtype, shard_tokens=shard_tokens, overflow=overflow,
        store_text=store_text, causal=stack.causal, n_layers=stack.depth,
    )
