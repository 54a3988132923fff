"""Influence of single edges of attention, by head and by block, as a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np

from infogeo._checks import FloatArray, as_float_array, check_count, check_shape, sealed
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError
from infogeo.influence import NORMALIZATIONS, Normalization, Symmetrization, symmetrized_influence
from infogeo.results import Result, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class EdgeInfluence(Result):
    """How far what attention says of each word moves when it may not look at each other word, by head and by block."""

    heads: FloatArray
    """(A, H, n, n), ``[a, h, i, j]`` of word i without word j in one head; not negative, zero on the diagonal."""
    whole: FloatArray
    """(A, n, n) of all heads of a block together."""
    words: tuple[str, ...]
    blocks: tuple[int, ...]
    """(A) counted from 1."""
    distribution: str
    """Covariance that lengths are measured by: ``effects`` or ``isotropic``."""
    reading: Literal["once", "twice"]
    """Whether the text was given once, or twice in a row."""
    causal: bool
    """True if earlier words cannot look at later ones: what is above the diagonal is zero for that reason."""
    source: Source

    def __post_init__(self) -> None:
        heads, whole = as_float_array("heads", self.heads), as_float_array("whole", self.whole)
        n = len(self.words)
        check_shape("heads", heads, (len(self.blocks), None, n, n))
        check_shape("whole", whole, (len(self.blocks), n, n))
        for name, array in (("heads", heads), ("whole", whole)):
            if (array < 0).any() or np.diagonal(array, axis1=-2, axis2=-1).any():
                raise DomainError(f"{name}: found values below zero or on the diagonal, wanted lengths between words")
            if self.causal and np.triu(array, 1).any():
                raise DomainError(f"{name}: found influence of a later word on an earlier one in a causal model")
            object.__setattr__(self, name, sealed(array))

    @property
    def n_heads(self) -> int:
        """Number of heads of a block."""
        return int(self.heads.shape[1])

    def parts(self) -> tuple[str, ...]:
        """Names of the measurements as :meth:`values` has them: heads block by block, then blocks."""
        names = [f"block {b}, head {h + 1}" for b in self.blocks for h in range(self.n_heads)]
        return (*names, *(f"block {b}" for b in self.blocks))

    def values(self) -> FloatArray:
        """(A H + A, n, n) all measurements: heads block by block, then blocks."""
        n = len(self.words)
        return np.concatenate([self.heads.reshape(-1, n, n), self.whole])

    def affinity(
        self, block: SupportsIndex, head: SupportsIndex | None = None, *, normalization: Normalization = "rows",
        symmetrized: Symmetrization | None = "log-sum",
    ) -> AffinityMatrix:
        """Influence in one head, or in a whole block, as an affinity between words.

        Parameters
        ----------
        block : int
            One of ``blocks``.
        head : int, optional
            Counted from 1; all heads together by default.
        normalization, symmetrized : optional
            As in :meth:`infogeo.Influence.affinity`.

        Returns
        -------
        AffinityMatrix

        Raises
        ------
        ArgumentError
            If the block or the head is not there, or there is no such normalization or way.
        """
        number = check_count("block", block)
        if number not in self.blocks:
            raise ArgumentError(f"block: found {number}, wanted one of {list(self.blocks)}")
        values = self.whole[self.blocks.index(number)]
        which = None if head is None else check_count("head", head)
        if which is not None:
            if not 1 <= which <= self.n_heads:
                raise ArgumentError(f"head: found {which}, wanted one from 1 to {self.n_heads}")
            values = self.heads[self.blocks.index(number), which - 1]
        if normalization not in NORMALIZATIONS:
            raise ArgumentError(f"normalization {normalization!r} does not exist; choose {', '.join(NORMALIZATIONS)}")
        weights = NORMALIZATIONS[normalization](values)
        if symmetrized is not None:
            weights = symmetrized_influence(weights, symmetrized, causal=self.causal)
        where = f"block {number}" if which is None else f"block {number}, head {which}"
        return AffinityMatrix(
            values=weights, words=self.words, name=f"influence of single edges in {where}, {self.distribution}",
            directed=symmetrized is None, layer=number, head=which, source=self.source,
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        n = len(self.words)
        table = [
            (part, self.words[i], self.words[j], float(one[i, j]))
            for part, one in zip(self.parts(), self.values(), strict=True)
            for i in range(n) for j in range(n) if i != j
        ]
        return ("part", "word", "without", "influence"), table

    def summary(self) -> str:
        blocks = f"{len(self.blocks)} blocks of {self.n_heads} heads"
        return f"EdgeInfluence of {len(self.words)} words in {blocks}, read {self.reading} ({self.source.model})"
