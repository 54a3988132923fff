"""What taking words away does to the states of the others: results, and their covariance over many texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, IntArray, as_float_array, as_int_array, check_count, check_shape, sealed
from infogeo.background import ShrinkageRule, intensity_of, ledoit_wolf
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class WordEffects(Result):
    """States of a text's words with everything there, and with each word taken away in turn.

    The arrays may be large, (m + 1) R n d numbers; they are taken as they are and set read-only, not copied.
    """

    words: tuple[str, ...]
    whole: NDArray[np.floating[Any]]
    """(R, n, d) states of the words in the whole text."""
    without: NDArray[np.floating[Any]]
    """(R, m, n, d) the same without a word; NaN at a word that is no longer there."""
    removed: IntArray
    """(m,) the word that each reading is without; several readings of one word are samples."""
    layers: tuple[int, ...]
    """(R) layers the states are read at."""
    removal: str
    """How words were taken away: ``hide``, ``mask``, ``delete``, ``mean``, ``resample``."""
    causal: bool
    """True if no word's state depends on a later word."""
    source: Source

    def __post_init__(self) -> None:
        removed = as_int_array("removed", self.removed)
        n, m, rows = len(self.words), len(removed), len(self.layers)
        check_shape("whole", self.whole, (rows, n, None))
        check_shape("without", self.without, (rows, m, n, self.whole.shape[-1]))
        if m and (removed.min() < 0 or removed.max() >= n):
            raise DomainError(f"removed: found words {removed.min()} to {removed.max()}, wanted 0 to {n - 1}")
        if not np.isfinite(self.whole).all():
            raise DomainError("whole: states hold NaN or infinity")
        for name, array in (("whole", self.whole), ("without", self.without), ("removed", removed)):
            object.__setattr__(self, name, sealed(array))

    def differences(self) -> NDArray[np.floating[Any]]:
        """(R, m, n, d) what taking words away changes, without less whole; NaN at a word that is no longer there."""
        return np.asarray(self.without - self.whole[:, None])

    def effects(self) -> FloatArray:
        """(R, k, d) the differences at all words that can be moved by the word taken away, in float64.

        Left out are the word taken away itself and, in a causal model, the words before it.
        """
        at, n = self.removed[:, None], np.arange(len(self.words))
        movable = n > at if self.causal else n != at
        return np.asarray(self.without[:, movable].astype(np.float64) - self.whole[:, np.nonzero(movable)[1]])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        lengths = np.linalg.norm(self.differences(), axis=-1)
        table = [
            (layer, self.words[self.removed[v]], self.words[i], float(lengths[r, v, i]))
            for r, layer in enumerate(self.layers) for v in range(len(self.removed)) for i in range(len(self.words))
        ]
        return ("layer", "without", "word", "change"), table

    def summary(self) -> str:
        size = f"{len(self.words)} words in {len(self.removed)} readings, layers {listed(self.layers)}"
        return f"WordEffects of {size}, by {self.removal!r} ({self.source.model})"


@dataclass(frozen=True, eq=False, kw_only=True)
class EffectsBackground(Result):
    """Mean and covariance, at every layer of a model, of the changes that taking words away makes in other words."""

    mean: FloatArray
    """(R, d)"""
    covariance: FloatArray
    """(R, d, d) with divisor n_effects, not shrunk."""
    fourth_moment: FloatArray
    """(R,) mean length of the centered effect to the fourth power, for Ledoit-Wolf."""
    n_effects: int
    """Pairs of a word taken away and a word that it may move."""
    layers: tuple[int, ...]
    """(R)"""
    removal: str
    source: Source

    def __post_init__(self) -> None:
        mean, covariance = as_float_array("mean", self.mean), as_float_array("covariance", self.covariance)
        fourth_moment = as_float_array("fourth_moment", self.fourth_moment)
        check_shape("mean", mean, (len(self.layers), None))
        check_shape("covariance", covariance, (len(mean), mean.shape[1], mean.shape[1]))
        check_shape("fourth_moment", fourth_moment, (len(mean),))
        if self.n_effects < 2:
            raise DomainError(f"n_effects: found {self.n_effects}, wanted at least 2 for a covariance")
        for name, array in (("mean", mean), ("covariance", covariance), ("fourth_moment", fourth_moment)):
            object.__setattr__(self, name, sealed(array))

    @property
    def dimension(self) -> int:
        """Width d of the states."""
        return int(self.mean.shape[1])

    def shrunk_covariance(
        self, layer: SupportsIndex, *, shrinkage: float | ShrinkageRule = ledoit_wolf
    ) -> tuple[FloatArray, float]:
        r"""Covariance at a layer, shrunk: :math:`(1 - \lambda) S + \lambda\, (\mathrm{tr} S / d)\, I`.

        Parameters
        ----------
        layer : int
            One of ``layers``.
        shrinkage : float or function
            The intensity from 0 to 1, or a rule that computes it. :func:`infogeo.ledoit_wolf` takes the effects for
            independent; those of one sentence are not, so it shrinks too little rather than too much.

        Returns
        -------
        covariance : array, shape (d, d)
        intensity : float

        Raises
        ------
        ArgumentError
            If the layer is not there, or the shrinkage is neither a number nor a function.
        DomainError
            If the intensity lies outside 0 to 1, nothing moves at the layer, or there are too few effects.
        """
        number = check_count("layer", layer)
        if number not in self.layers:
            raise ArgumentError(f"layer: found {number}, wanted one of {listed(self.layers)}")
        r = self.layers.index(number)
        s = self.covariance[r]
        intensity = intensity_of(shrinkage, s, n=self.n_effects, fourth_moment=float(self.fourth_moment[r]))
        variance = float(np.trace(s)) / self.dimension
        if variance <= 0:
            raise DomainError(
                f"covariance: taking words away by {self.removal!r} moves nothing at layer {number}; choose a later one"
            )
        if intensity == 0.0 and self.n_effects <= self.dimension:
            raise DomainError(
                f"covariance: {self.n_effects} effects do not determine a covariance in {self.dimension} dimensions "
                "without shrinkage; use a longer background text, or shrinkage=ledoit_wolf"
            )
        return (1 - intensity) * s + intensity * variance * np.eye(self.dimension), intensity

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        variance = np.trace(self.covariance, axis1=1, axis2=2) / self.dimension
        norms = np.linalg.norm(self.mean, axis=1)
        table = zip(self.layers, norms.tolist(), variance.tolist(), strict=True)
        return ("layer", "norm_of_mean", "mean_variance"), list(table)

    def summary(self) -> str:
        size = f"{self.n_effects} effects at layers {listed(self.layers)}"
        return f"EffectsBackground of {size}, by {self.removal!r} ({self.source.model})"


class EffectMoments:
    """Sums from which an :class:`EffectsBackground` is made, text by text.

    Parameters
    ----------
    layers : sequence of int
        Layers of the effects that will be added.

    Examples
    --------
    >>> moments = EffectMoments([3])
    >>> moments.add([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> moments.add([[[0.0, 2.0], [0.0, -2.0]]])
    >>> moments.background(removal="hide", source=Source()).covariance.tolist()
    [[[0.5, 0.0], [0.0, 2.0]]]
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self.n = 0
        self._sums: list[FloatArray] = []

    def add(self, effects: ArrayLike) -> None:
        """Take in the effects (R, k, d) of one text."""
        x = as_float_array("effects", effects)
        check_shape("effects", x, (len(self.layers), None, None))
        if not x.shape[1]:
            return
        lengths = (x**2).sum(axis=-1)
        parts = [
            x.sum(axis=1), np.swapaxes(x, 1, 2) @ x, (lengths[..., None] * x).sum(axis=1), (lengths**2).sum(axis=1)
        ]
        if self._sums and self._sums[0].shape != parts[0].shape:
            raise ShapeError(f"effects: found width {x.shape[2]} after width {self._sums[0].shape[1]}")
        self._sums = [a + b for a, b in zip(self._sums, parts, strict=True)] if self._sums else parts
        self.n += x.shape[1]

    def background(self, *, removal: str, source: Source) -> EffectsBackground:
        """Mean, covariance and fourth moment of what was added.

        Raises
        ------
        DomainError
            If there were fewer than two effects.
        """
        if self.n < 2:
            raise DomainError(f"effects: found {self.n}, wanted at least 2; the texts need two words or more")
        m, e2, e3, e4 = (s / self.n for s in self._sums)
        c = (m**2).sum(axis=1)
        # E|y - m|^4 with |y - m|^2 = |y|^2 - 2 m.y + |m|^2
        fourth = (
            e4 + 4 * np.einsum("li,lij,lj->l", m, e2, m) - 3 * c**2 - 4 * (m * e3).sum(axis=1)
            + 2 * c * np.trace(e2, axis1=1, axis2=2)
        )
        return EffectsBackground(
            mean=m, covariance=e2 - m[:, :, None] * m[:, None, :], fourth_moment=fourth, n_effects=self.n,
            layers=self.layers, removal=removal, source=source,
        )


def listed(layers: Sequence[int]) -> str:
    """Layers as they stand in messages."""
    return ", ".join(map(str, layers))
