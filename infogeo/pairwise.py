"""All pairs of a batch, in blocks of bounded memory, and pairs row by row."""

from __future__ import annotations

import contextvars
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numpy as np

from infogeo._arrays import Array, is_tensor, namespace, requires_gradient
from infogeo._checks import FloatArray, check_count, check_number
from infogeo.activations import LayerActivations, Pooling
from infogeo.errors import ArgumentError, ShapeError
from infogeo.estimation import point_masses
from infogeo.families import Family
from infogeo.measures import Measure, check_family
from infogeo.words import DistanceMatrix, WordDistributions

TILE_BYTES = 4e6
"""Temporaries of one evaluation of a kernel stay under this even where more memory is allowed: caches are small."""

SQUARE, COSTLY = 64, 250_000
"""A square on the diagonal of more rows, and of more numbers in all its pairs, is cut to leave out half of it, if its
kernel costs by the entry."""

Progress = Callable[[int, int], object]
"""Called with the number of rows that are final and the number of all rows."""


class _Tiles:
    """Evaluates a measure on rectangles of the matrix of all pairs of a batch, within a memory.

    A square on the diagonal of a symmetric measure is computed above its diagonal and mirrored.
    """

    def __init__(self, measure: Measure, x: Family, memory: float, *, threads: int = 1) -> None:
        check_family(measure.name, x)
        if len(x.batch_shape) != 1:
            raise ShapeError(
                f"pairwise: found batch shape {x.batch_shape}, wanted (n,); index the batch down to one axis"
            )
        memory = check_number("memory", memory)
        if memory == math.inf:
            raise ArgumentError("memory: found inf, wanted a finite number of bytes")
        registration = measure.registration(type(x))
        self.parameters = [getattr(x, name) for name in x.event_axes]
        if requires_gradient(*self.parameters):
            raise ArgumentError(
                "pairwise: found parameters that record gradients, and blocks are computed without; for gradients call "
                f"{measure.name}(x[:, None], x[None]), or give a batch of detached parameters"
            )
        self.kernel, self.block, self.x, self.n = registration.kernel, registration.block, x, len(x)
        self.symmetric, self.tensors = measure.symmetric, is_tensor(self.parameters[0])
        # two members are gathered for each pair of a square on the diagonal
        pair = 8 * (registration.scratch + 2 * measure.symmetric) * x.member_size
        entry = pair if self.block is None else 8 * self.block.scratch
        if not memory >= 2 * max(pair, entry):
            raise ArgumentError(
                f"memory: found {memory:g} bytes, wanted at least {2 * max(pair, entry)} for one pair of "
                f"{type(x).__name__} of dimension {x.dimension} under {measure.name}"
            )
        self.threads = max(1, min(threads, int(memory // (2 * max(pair, entry)))))
        memory /= self.threads
        # half for the block itself, half for the entries that are computed again pair by pair
        self.memory = memory / 2
        available = self.memory
        if self.block is None and not self.tensors:
            available = min(available, max(TILE_BYTES, pair))
        self.entries = int(available // entry)
        self.prepared = None if self.block is None else self.block.prepare(x)

    def shape(self, *, whole_rows: bool) -> tuple[int, int]:
        """Height and width of tiles; with ``whole_rows`` the rows of one height take no more memory than a tile."""
        n, entries = self.n, self.entries
        if whole_rows or self.block is None:
            width = min(n, entries)
            return max(1, min(n, entries // width)), width
        if self.block.tile is not None and not self.tensors:
            height, width = (min(n, side) for side in self.block.tile)
        elif n * n <= entries:
            return n, n
        else:
            height = max(1, math.isqrt(entries) // 2)
            width = entries // height
        width = min(n, width, entries)
        return max(1, min(height, entries // width)), width

    def empty(self, height: int, width: int) -> Array:
        """Uninitialized values."""
        return self.parameters[0].new_empty((height, width)) if self.tensors else np.empty((height, width))

    def __call__(self, rows: slice, columns: slice) -> Array:
        square = rows == columns and self.symmetric
        if square and rows.stop - rows.start == 1:
            values = self.empty(1, 1)
        elif square and self._cut(rows.stop - rows.start):
            half = (rows.stop - rows.start) // 2
            first, last = slice(rows.start, rows.start + half), slice(rows.start + half, rows.stop)
            values = self.empty(rows.stop - rows.start, rows.stop - rows.start)
            values[:half, :half], values[:half, half:] = self(first, first), self(first, last)
            values[half:, half:] = self(last, last)
        elif self.block is not None:
            values = self.block.evaluate(self.prepared, rows, columns, self.memory)
        elif square:
            values = self._upper(rows)
        else:
            values = self.kernel(self.x[rows][:, None], self.x[columns][None])
        if square:
            upper = namespace(values).triu(values, k=1)
            values = upper + upper.T
        diagonal = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
        if len(diagonal):
            values[diagonal - rows.start, diagonal - columns.start] = 0.0
        return values

    def _cut(self, height: int) -> bool:
        by_entry = self.block is not None and self.block.tile is not None
        return by_entry and height > SQUARE and height * height * self.x.member_size > COSTLY

    def _upper(self, rows: slice) -> Array:
        """Values above the diagonal of a square, each pair once."""
        height = rows.stop - rows.start
        values = self.empty(height, height)
        above = np.triu_indices(height, 1)
        for part in _slices(0, len(above[0]), self.entries):
            i, j = (side[part] for side in above)
            values[i, j] = self.kernel(self.x[rows.start + i], self.x[rows.start + j])
        return values


def iter_blocks(
    measure: Measure, x: Family, *, memory: float = 256e6, start: int = 0
) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of the matrix of all pairs, some at a time, without ever holding the whole matrix.

    Parameters
    ----------
    measure : Measure
    x : Family
        A batch of shape (n,); parameters that are tensors give tensors, computed on their device.
    memory : float
        Bytes that the temporaries may take. Not counted are the rows that are handed out and the copies of the batch
        that some measures make: see :func:`pairwise`.
    start : int
        The first row, for work that is taken up again.

    Yields
    ------
    rows : slice
    values : array, shape (rows.stop - rows.start, n)

    Raises
    ------
    ArgumentError
        If ``measure`` is no measure, ``memory`` does not suffice for one pair, or there is no row ``start``; if
        parameters record gradients.
    ShapeError
        If the batch has not exactly one axis.

    Examples
    --------
    >>> from infogeo import PointMass, euclidean_distance
    >>> x = PointMass([[0.0], [1.0], [3.0]])
    >>> [(rows.start, values.max().item()) for rows, values in iter_blocks(euclidean_distance, x, memory=500)]
    [(0, 3.0), (1, 2.0), (2, 3.0)]
    """
    check_measure("iter_blocks", measure)
    tiles = _Tiles(measure, x, memory)
    _check_start(start, tiles.n)
    height, width = tiles.shape(whole_rows=True)
    for rows in _slices(start, tiles.n, height):
        values = tiles.empty(rows.stop - rows.start, tiles.n)
        for columns in _slices(0, tiles.n, width):
            values[:, columns] = tiles(rows, columns)
        yield rows, values


@overload
def pairwise(
    measure: Measure,
    x: WordDistributions,
    *,
    memory: float = 256e6,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DistanceMatrix: ...
@overload
def pairwise(
    measure: Measure,
    x: Family,
    *,
    memory: float = 256e6,
    out: FloatArray | None = None,
    start: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> FloatArray: ...
def pairwise(
    measure: Measure,
    x: WordDistributions | Family,
    *,
    memory: float = 256e6,
    out: FloatArray | None = None,
    start: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DistanceMatrix | FloatArray:
    """A measure of all pairs; ``values[i, j] = measure(x[i], x[j])``.

    Of a symmetric measure only one triangle is computed. The diagonal is exactly zero. Parameters that are tensors give
    a tensor, computed on their device by the same kernels; NumPy works in portions that fit the cache of a core.

    Parameters
    ----------
    measure : Measure
        The function itself, for example ``fisher_rao_distance``.
    x : WordDistributions or Family
        Words, or a batch of shape (n,).
    memory : float
        Bytes that the temporaries of all threads may take. Not counted are the result (8 n^2, twice for words while it
        is checked) and copies of the batch (8 n times the numbers of one member). One copy is made for ``PointMass``,
        for ``SharedCovarianceGaussian`` except under ``bures_wasserstein_distance``, for ``IsotropicGaussian``, and
        for ``Categorical``, where the Kullback-Leibler and Jeffreys divergence make a second if a probability is zero;
        one and a half for ``DiagonalGaussian`` under ``fisher_rao_distance``. All others make none.
        ``VonMisesFisher`` works in rounds of a fixed size, about 4 MB for each thread.
    out : array, shape (n, n), optional
        Where the values are written, block by block: float64, or float32, to which they are rounded. For results
        larger than the memory of the machine ``numpy.lib.format.open_memmap(path, "w+", shape=(n, n))``.
    start : int
        The first row to compute, for work that is taken up again with the ``out`` of before: the rows up to here, and
        the columns of a symmetric measure, are left as they are. What ``progress`` was told last is where to start;
        ``infogeo_adapters.pairwise_to_file`` keeps count in a file.
    threads : int, optional
        Threads that compute blocks, which are the same for every number of threads. By default as many as the process
        has cores, but no more than the environment variable ``OMP_NUM_THREADS`` says. Tensors are left to torch.
    progress : callable, optional
        Called as ``progress(done, total)`` in the thread of the caller as rows become final: the first ``done`` of
        ``total``. An exception that it raises ends the work.

    Returns
    -------
    DistanceMatrix
        For words; level, layer, construction and source are theirs.
    array, shape (n, n)
        For a bare family: ``out`` if it was given.

    Raises
    ------
    ArgumentError
        If ``measure`` is no measure, ``memory`` does not suffice for one pair, ``out`` does not fit, or ``start`` is
        not a row of it; if parameters record gradients, which ``measure(x[:, None], x[None])`` carries.
    UnsupportedFamilyError
        If the measure has no formula for the family.
    ShapeError
        If the batch has not exactly one axis.
    DomainError
        For words, if a value is infinite; the two words are named.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian, fisher_rao_distance
    >>> x = DiagonalGaussian([[0.0], [0.0], [1.0]], [[1.0], [4.0], [1.0]])
    >>> pairwise(fisher_rao_distance, x).round(4).tolist()
    [[0.0, 0.9803, 0.9803], [0.9803, 0.0, 1.1894], [0.9803, 1.1894, 0.0]]
    """
    check_measure("pairwise", measure)
    if isinstance(x, WordDistributions):
        if out is not None or start:
            raise ArgumentError(
                "pairwise: out and start are for a bare family; the result for words is a DistanceMatrix, so call "
                "pairwise(measure, words.distribution, out=...)"
            )
        return DistanceMatrix(
            values=pairwise(measure, x.distribution, memory=memory, threads=threads, progress=progress),
            words=x.words,
            measure=measure.name,
            symmetric=measure.symmetric,
            metric=measure.is_metric(type(x.distribution)),
            level=x.level,
            layer=x.layer,
            construction=x.construction,
            source=x.source,
        )
    check_family(measure.name, x)
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress: found {progress!r}, wanted a function of rows done and all rows")
    threads = available_threads() if threads is None else check_count("threads", threads, 1)
    tiles = _Tiles(measure, x, memory, threads=1 if is_tensor(getattr(x, next(iter(x.event_axes)))) else threads)
    n = tiles.n
    _check_start(start, n)
    if out is None and start:
        raise ArgumentError(f"start: found {start} without out, wanted the array whose first {start} rows are final")
    values = tiles.empty(n, n) if out is None else _checked_out(out, tiles)
    height, width = tiles.shape(whole_rows=False)

    def compute(rows: slice) -> None:
        if not measure.symmetric:
            for columns in _slices(0, n, width):
                values[rows, columns] = tiles(rows, columns)
            return
        values[rows, rows] = tiles(rows, rows)
        for columns in _slices(rows.stop, n, width):
            tile = tiles(rows, columns)
            values[rows, columns] = tile
            values[columns, rows] = tile.T

    _in_threads(compute, list(_slices(start, n, height)), threads=tiles.threads, progress=progress, total=n)
    return values


def available_threads() -> int:
    """Cores that the process may use, but no more than the environment variable ``OMP_NUM_THREADS`` says."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, min(cores, int(said))) if said.isdigit() else cores


def _in_threads(
    compute: Callable[[slice], None], parts: list[slice], *, threads: int, progress: Progress | None, total: int
) -> None:
    """Compute all parts, the first ones first, and tell how many rows are final as it grows."""

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, total)

    if threads == 1 or len(parts) == 1:
        for part in parts:
            compute(part)
            tell(part.stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        # a context of its own for each, so that np.errstate of the caller holds in the threads
        running = [pool.submit(contextvars.copy_context().run, compute, part) for part in parts]
        try:
            for part, future in zip(parts, running, strict=True):
                future.result()
                tell(part.stop)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _check_start(start: int, n: int) -> None:
    if not 0 <= check_count("start", start) <= n:  # n: nothing is left to do
        raise ArgumentError(f"start: found {start}, wanted a row from 0 to {n - 1}, or {n} if all are final")


def _checked_out(out: Any, tiles: _Tiles) -> FloatArray:
    wanted = f"wanted a writable NumPy array of shape ({tiles.n}, {tiles.n}) and dtype float64 or float32"
    if tiles.tensors:
        raise ArgumentError("out: the batch is made of tensors, whose result is a new tensor; leave out away")
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out: found {type(out).__name__}, {wanted}")
    if out.shape != (tiles.n, tiles.n) or out.dtype not in (np.float64, np.float32):
        raise ArgumentError(f"out: found shape {out.shape} and dtype {out.dtype}, {wanted}")
    if not out.flags.writeable:
        raise ArgumentError(f"out: found a read-only array, {wanted}")
    return out


def paired(
    measure: Measure, x: WordDistributions | Family, y: WordDistributions | Family, *, memory: float = 256e6
) -> FloatArray:
    """A measure row by row; ``values[i] = measure(x[i], y[i])``.

    Parameters
    ----------
    measure : Measure
    x, y : WordDistributions or Family
        Batches of one shape; two ``WordDistributions`` must be of the same words, for example at two layers. Tensors
        give a tensor, with gradients if they record them.
    memory : float
        Bytes that the temporaries may take; the result is not counted.

    Returns
    -------
    array
        Of the batch shape.

    Raises
    ------
    ArgumentError
        If ``measure`` is no measure, or the words differ.
    ShapeError
        If the batch shapes differ.

    Examples
    --------
    >>> from infogeo import PointMass, euclidean_distance
    >>> paired(euclidean_distance, PointMass([[0.0], [1.0]]), PointMass([[2.0], [1.5]])).tolist()
    [2.0, 0.5]
    """
    check_measure("paired", measure)
    if isinstance(x, WordDistributions) and isinstance(y, WordDistributions) and x.words != y.words:
        raise ArgumentError("paired: the two have different words; paired compares the same words one by one")
    p = x.distribution if isinstance(x, WordDistributions) else x
    q = y.distribution if isinstance(y, WordDistributions) else y
    for side in (p, q):
        check_family(measure.name, side)
    if p.batch_shape != q.batch_shape:
        raise ShapeError(
            f"paired: found batch shapes {p.batch_shape} and {q.batch_shape}, wanted equal ones; for all pairs use "
            "pairwise"
        )
    if not p.batch_shape:
        single: FloatArray = measure(p, q)
        return single
    registration = measure.registration(type(p))
    row_bytes = 8 * registration.scratch * p.member_size * math.prod(p.batch_shape[1:])
    step = int(min(max(1, check_number("memory", memory) // row_bytes), len(p)))
    parts = [measure(p[rows], q[rows]) for rows in _slices(0, len(p), step)]
    whole: FloatArray = namespace(*parts).concat(parts)
    return whole


def vector_distances(
    measure: Measure, activations: LayerActivations, layer: int, *, pooling: Pooling = "mean", memory: float = 256e6
) -> DistanceMatrix:
    """All pairs of the word vectors of a text under a measure of plain vectors.

    The same as ``pairwise(measure, point_masses(activations, layer))``.

    Parameters
    ----------
    measure : Measure
        Such as :func:`~infogeo.cosine_distance` or :func:`~infogeo.euclidean_distance`.
    activations : LayerActivations
    layer : int
        Negative numbers count from the last layer.
    pooling : {'mean', 'first', 'last'}
        How the tokens of a word are turned into its vector.
    memory : float
        As for :func:`pairwise`.

    Returns
    -------
    DistanceMatrix

    Raises
    ------
    UnsupportedFamilyError
        If the measure is not defined for plain vectors.
    ArgumentError
        If the layer or the pooling does not exist.
    """
    return pairwise(measure, point_masses(activations, layer, pooling=pooling), memory=memory)


def check_measure(caller: str, measure: object) -> None:
    """Raise unless the argument is a measure."""
    if not isinstance(measure, Measure):
        raise ArgumentError(
            f"{caller}: found {measure!r} as the measure, wanted the function itself, such as fisher_rao_distance; "
            "by name it is MEASURES['fisher_rao_distance']"
        )


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, stop)) for i in range(start, stop, step))
