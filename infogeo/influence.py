r"""How far the distribution of one word moves when another word is taken away, as arrays and results.

Influence is no distance between two words but between two readings of one: with :math:`P_i` the distribution of word i
in the whole sentence and :math:`P_{i \setminus j}` the one without word j,

.. math:: a_{ij} = d(P_i, P_{i \setminus j}),

with d the Fisher-Rao distance. It has a direction: row i is the word that is moved, column j the one taken away. A
word's influence on itself is left out, and stands as zero on the diagonal. In a causal model nothing moves the words
before the one taken away: what stands above the diagonal there is zero because it cannot be anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from infogeo._checks import FloatArray, as_float_array, check_count, check_flag, check_shape, sealed
from infogeo._influence_distances import Manifold as Manifold
from infogeo._influence_distances import check_influence
from infogeo._influence_distances import influence_matrix as influence_matrix
from infogeo._influence_distances import normal_lengths as normal_lengths
from infogeo._influence_distances import whitened_lengths as whitened_lengths
from infogeo._influence_distances import whitening_factors as whitening_factors
from infogeo._influence_effects import EffectMoments as EffectMoments
from infogeo._influence_effects import EffectsBackground as EffectsBackground
from infogeo._influence_effects import WordEffects as WordEffects
from infogeo._influence_effects import listed
from infogeo._influence_weights import NORMALIZATIONS as NORMALIZATIONS
from infogeo._influence_weights import DistanceProfile as DistanceProfile
from infogeo._influence_weights import Normalization as Normalization
from infogeo._influence_weights import Symmetrization as Symmetrization
from infogeo._influence_weights import as_they_are as as_they_are
from infogeo._influence_weights import distance_profile as distance_profile
from infogeo._influence_weights import product_ratios as product_ratios
from infogeo._influence_weights import row_entropies as row_entropies
from infogeo._influence_weights import row_shares as row_shares
from infogeo._influence_weights import symmetric_shares as symmetric_shares
from infogeo._influence_weights import symmetrized_influence as symmetrized_influence
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError
from infogeo.results import Result, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class Influence(Result):
    """How far the distribution of each word moves on the statistical manifold when each other word is taken away."""

    values: FloatArray
    """(R, n, n), ``[r, i, j]`` of word i without word j, at ``layers[r]``; zero on the diagonal."""
    words: tuple[str, ...]
    layers: tuple[int, ...]
    """(R)"""
    removal: str
    """How words were taken away: ``hide``, ``mask``, ``delete``, ``mean``, ``resample``."""
    distribution: str
    """What moves: ``states``, ``effects``, ``readout``."""
    causal: bool
    """True if earlier words cannot be moved by later ones: what is above the diagonal is zero for that reason."""
    source: Source

    def __post_init__(self) -> None:
        values = as_float_array("values", self.values, finite=False)
        n = len(self.words)
        check_shape("values", values, (len(self.layers), n, n))
        check_influence(values)
        if check_flag("causal", self.causal) and np.triu(values, 1).any():
            raise DomainError("values: found influence of a later word on an earlier one in a causal model")
        object.__setattr__(self, "values", sealed(values))

    def at(self, layer: SupportsIndex | None = None) -> FloatArray:
        """Influence (n, n) at a layer, which may be left away where there is only one.

        Raises
        ------
        ArgumentError
            If the layer was not read, or is left away though there are several.
        """
        if layer is None:
            if len(self.layers) != 1:
                raise ArgumentError(f"layer: found none, wanted one of {listed(self.layers)}")
            return np.asarray(self.values[0])
        number = check_count("layer", layer)
        if number not in self.layers:
            raise ArgumentError(f"layer: found {number}, wanted one of {listed(self.layers)}")
        return np.asarray(self.values[self.layers.index(number)])

    def entropies(self) -> FloatArray:
        """(R, n) entropy of each row in nats, see :func:`row_entropies`."""
        return row_entropies(self.values)

    def affinity(
        self, layer: SupportsIndex | None = None, *, normalization: Normalization = "rows",
        symmetrized: Symmetrization | None = "log-sum",
    ) -> AffinityMatrix:
        """Influence at a layer as an affinity between words, from which a word graph can be made.

        Parameters
        ----------
        layer : int, optional
            One of ``layers``; needed where there are several.
        normalization : {"rows", "none", "symmetric", "product"}
            :func:`row_shares`, :func:`as_they_are`, :func:`symmetric_shares` or :func:`product_ratios`.
        symmetrized : {"log-sum", "sum", "max"} or None
            How both directions become one weight, see :func:`symmetrized_influence`; None leaves the matrix directed,
            row the word moved.

        Returns
        -------
        AffinityMatrix

        Raises
        ------
        ArgumentError
            If the layer was not read, or there is no such normalization or way.
        """
        if normalization not in NORMALIZATIONS:
            raise ArgumentError(f"normalization {normalization!r} does not exist; choose {', '.join(NORMALIZATIONS)}")
        values = NORMALIZATIONS[normalization](self.at(layer))
        number = self.layers[0] if layer is None else check_count("layer", layer)
        name = f"influence at layer {number}, word removed by {self.removal!r}, {self.distribution}"
        if normalization != "none":
            name += f", normalized by {normalization}"
        if symmetrized is not None:
            values = symmetrized_influence(values, symmetrized, causal=self.causal)
            name += f", {symmetrized}"
        return AffinityMatrix(
            values=values, words=self.words, name=name, directed=symmetrized is None,
            source=self.source.with_options(
                normalization=normalization, symmetrized=symmetrized, layer=number, causal=self.causal
            ),
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = [
            (layer, i, j, self.words[i], self.words[j], float(self.values[r, i, j]))
            for r, layer in enumerate(self.layers)
            for i in range(len(self.words)) for j in range(len(self.words)) if i != j
        ]
        return ("layer", "moved", "removed", "moved_word", "removed_word", "influence"), table

    def summary(self) -> str:
        size = f"{len(self.words)} words at layers {listed(self.layers)}"
        return f"Influence of {size}: {self.distribution}, removed by {self.removal!r} ({self.source.model})"
