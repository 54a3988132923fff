"""All pairs of a batch, in blocks of bounded memory, and pairs row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import overload

import numpy as np

from infogeo._checks import FloatArray
from infogeo.activations import LayerActivations, Pooling
from infogeo.errors import ArgumentError, ShapeError
from infogeo.estimation import point_masses
from infogeo.families import Family
from infogeo.measures import Measure
from infogeo.words import DistanceMatrix, WordDistributions

TILE_BYTES = 4e6
"""Temporaries of one evaluation of a kernel stay under this even where more memory is allowed: caches are small."""


class _Tiles:
    """Evaluates a measure on rectangles of the matrix of all pairs of a batch, within a memory."""

    def __init__(self, measure: Measure, x: Family, memory: float) -> None:
        check_measure("pairwise", measure)
        if len(x.batch_shape) != 1:
            raise ShapeError(
                f"pairwise: found batch shape {x.batch_shape}, wanted (n,); index the batch down to one axis"
            )
        registration = measure.registration(type(x))
        self.kernel, self.block, self.x, self.n = registration.kernel, registration.block, x, len(x)
        pair = 8 * registration.scratch * x.member_size
        if self.block is not None:
            # half for the block itself, half for the entries that are computed again pair by pair
            self.memory = memory / 2
            entry, available = 8 * self.block.scratch, memory / 2
        else:
            entry, available = pair, min(memory, max(TILE_BYTES, pair))
        if not memory >= 2 * max(pair, entry):
            raise ArgumentError(
                f"memory: found {memory:g} bytes, wanted at least {2 * max(pair, entry)} for one pair of "
                f"{type(x).__name__} of dimension {x.dimension} under {measure.name}"
            )
        self.entries = int(available // entry)
        self.prepared = None if self.block is None else self.block.prepare(x)

    def shape(self, columns: int) -> tuple[int, int]:
        """Height and width of tiles for a matrix of so many columns."""
        width = min(columns, self.entries)
        return max(1, self.entries // width), width

    def __call__(self, rows: slice, columns: slice) -> FloatArray:
        if self.block is not None:
            return self.block.evaluate(self.prepared, rows, columns, self.memory)
        return self.kernel(self.x[rows][:, None], self.x[columns][None])


def iter_blocks(measure: Measure, x: Family, *, memory: float = 256e6) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of the matrix of all pairs, some at a time, without ever holding the whole matrix.

    Parameters
    ----------
    measure : Measure
    x : Family
        A batch of shape (n,).
    memory : float
        Bytes that the temporaries may take. Not counted are the rows that are handed out and the copies of the batch
        that measures with a matrix product make, up to two: see :func:`pairwise`.

    Yields
    ------
    rows : slice
    values : array, shape (rows.stop - rows.start, n)

    Raises
    ------
    ArgumentError
        If ``measure`` is no measure, or ``memory`` does not suffice for one pair.
    ShapeError
        If the batch has not exactly one axis.

    Examples
    --------
    >>> from infogeo import PointMass, euclidean_distance
    >>> x = PointMass([[0.0], [1.0], [3.0]])
    >>> [(rows.start, values.max().item()) for rows, values in iter_blocks(euclidean_distance, x, memory=500)]
    [(0, 3.0), (1, 2.0), (2, 3.0)]
    """
    tiles = _Tiles(measure, x, memory)
    height, width = tiles.shape(tiles.n)
    for rows in _slices(0, tiles.n, height):
        values = np.empty((rows.stop - rows.start, tiles.n))
        for columns in _slices(0, tiles.n, width):
            values[:, columns] = tiles(rows, columns)
        values[np.arange(len(values)), np.arange(rows.start, rows.stop)] = 0.0
        yield rows, values


@overload
def pairwise(measure: Measure, x: WordDistributions, *, memory: float = 256e6) -> DistanceMatrix: ...
@overload
def pairwise(measure: Measure, x: Family, *, memory: float = 256e6) -> FloatArray: ...
def pairwise(
    measure: Measure, x: WordDistributions | Family, *, memory: float = 256e6
) -> DistanceMatrix | FloatArray:
    """A measure of all pairs; ``values[i, j] = measure(x[i], x[j])``.

    Of a symmetric measure only one triangle is computed. The diagonal is exactly zero.

    Parameters
    ----------
    measure : Measure
        The function itself, for example ``fisher_rao_distance``.
    x : WordDistributions or Family
        Words, or a batch of shape (n,).
    memory : float
        Bytes that the temporaries may take. Not counted are the result (8 n^2, twice for words while it is checked) and
        up to two copies of the batch (8 n times the numbers of one member) for measures with a matrix product: one for
        ``PointMass``, for ``SharedCovarianceGaussian`` except under ``bures_wasserstein_distance``, and for
        ``Categorical`` under ``fisher_rao_distance``, ``hellinger_distance``, ``kl_divergence`` and
        ``jeffreys_divergence``; a second for the two divergences if a probability is zero. All others make none.

    Returns
    -------
    DistanceMatrix
        For words; level, layer, construction and source are theirs.
    array, shape (n, n)
        For a bare family.

    Raises
    ------
    ArgumentError
        If ``measure`` is no measure, or ``memory`` does not suffice for one pair.
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
    if isinstance(x, WordDistributions):
        return DistanceMatrix(
            values=pairwise(measure, x.distribution, memory=memory),
            words=x.words,
            measure=measure.name,
            symmetric=measure.symmetric,
            metric=measure.is_metric(type(x.distribution)),
            level=x.level,
            layer=x.layer,
            construction=x.construction,
            source=x.source,
        )
    tiles = _Tiles(measure, x, memory)
    n = tiles.n
    values = np.empty((n, n))
    height, width = tiles.shape(n)
    for rows in _slices(0, n, height):
        for columns in _slices(rows.start if measure.symmetric else 0, n, width):
            values[rows, columns] = tiles(rows, columns)
        if measure.symmetric:
            square = np.triu(values[rows, rows], 1)
            values[rows, rows] = square + square.T
            values[rows.stop :, rows] = values[rows, rows.stop :].T
    np.fill_diagonal(values, 0.0)
    return values


def paired(
    measure: Measure, x: WordDistributions | Family, y: WordDistributions | Family, *, memory: float = 256e6
) -> FloatArray:
    """A measure row by row; ``values[i] = measure(x[i], y[i])``.

    Parameters
    ----------
    measure : Measure
    x, y : WordDistributions or Family
        Batches of one shape; two ``WordDistributions`` must be of the same words, for example at two layers.
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
    if p.batch_shape != q.batch_shape:
        raise ShapeError(
            f"paired: found batch shapes {p.batch_shape} and {q.batch_shape}, wanted equal ones; for all pairs use "
            "pairwise"
        )
    if not p.batch_shape:
        return measure(p, q)
    registration = measure.registration(type(p))
    row_bytes = 8 * registration.scratch * p.member_size * math.prod(p.batch_shape[1:])
    step = max(1, int(memory // row_bytes))
    return np.concatenate([measure(p[rows], q[rows]) for rows in _slices(0, len(p), step)])


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
